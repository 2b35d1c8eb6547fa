"""Pictures and texts through a dual encoder, in batches that a shard's rows alone decide.

B pictures, N texts, E width of the model's space.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from pairloom.store.hashed import sha256_file
from pairloom.table import Array
from schemas.score import SCORE
from stages import rows_done
from stages.curate.text import clean
from stages.pixels import stored_bytes
from stages.regions.extract import by_size
from stages.regions.pictures import Prepared, Unreadable, ahead, prepare
from stages.rejects import Reject
from stages.score.config import Config
from systems.encoders import Encoder, open_encoder
from systems.encoders.heads import Head, read_all
from systems.encoders.kinds import files, kind_of
from systems.encoders.placing import Placing


@dataclass(frozen=True)
class Scorer:
    """A loaded model with its heads, and how it is driven."""

    encoder: Encoder
    heads: tuple[Head, ...]
    config: Config
    batch: int
    threads: int


@dataclass(frozen=True)
class Seen:
    """What a picture gives."""

    vector_E: Array  # float32
    heads: tuple[float, ...]


def load(config: Config) -> tuple[Scorer, dict[str, str]]:
    """The model and its heads, and what a shard's metadata says of them."""
    placing = Placing.of(config.device, config.precision, "score")
    encoder = open_encoder(config.path, config.architecture, placing)
    heads = read_all(config.heads, encoder.width)
    gpu = placing.device.startswith("cuda")
    scorer = Scorer(encoder, heads, config, config.batch or (256 if gpu else 16), config.threads or (8 if gpu else 2))
    digests = "".join(sha256_file(file) for file in files(config.path))
    notes = {
        "score_model": config.architecture or kind_of(config.path, None).value,
        "score_checkpoint": hashlib.sha256(digests.encode()).hexdigest(),
        "score_precision": placing.precision,
        "score_width": str(encoder.width),
    }
    return scorer, notes


def scored(download: pa.Table, scorer: Scorer) -> tuple[dict[str, list[Any]], list[Reject]]:
    """(the columns of table `score`, the rows that are left out)."""
    rows = download.select(["image_id", "url", "source", "captions"]).to_pylist()
    texts = [[clean(caption["text"]) for caption in row["captions"]] for row in rows]
    distinct = dict.fromkeys(text for row in texts for text in row if text)
    rows_done.expect(len(rows) + len(distinct))
    seen = look(download["image"], scorer)
    read = vectors_of(distinct, scorer)
    columns: dict[str, list[Any]] = {column.name: [] for column in SCORE.columns}
    rejects = []
    for row, own, picture in zip(rows, texts, seen, strict=True):
        reason, detail = _problem(picture, own, read)
        if reason or isinstance(picture, Unreadable):
            rejects.append(Reject(row["image_id"].hex(), reason, detail, row))
            continue
        found = {"image_id": row["image_id"], **_columns(picture, own, read, scorer)}
        for name, values in columns.items():
            values.append(found.get(name))
    wanted = {"image_embedding": scorer.config.image_embedding, "text_embedding": scorer.config.text_embedding}
    return {name: values for name, values in columns.items() if wanted.get(name, True)}, rejects


def look(images: pa.ChunkedArray, scorer: Scorer) -> list[Seen | Unreadable]:
    """What each picture gives, in order."""
    found: dict[int, Seen | Unreadable] = {}

    def readable() -> Iterable[Prepared]:
        bodies = [partial(stored_bytes, image) for image in images]
        step = partial(_prepare, encoder=scorer.encoder)
        for picture in ahead(step, enumerate(bodies), scorer.threads, waiting=max(3, scorer.batch // scorer.threads)):
            if isinstance(picture, Unreadable):
                found[picture.row] = picture
            else:
                yield picture

    for batch in by_size(readable(), scorer.batch):
        vectors_BE = scorer.encoder.images(torch.stack([one.image for one in batch]))
        scores_HB = [head(vectors_BE).tolist() for head in scorer.heads]
        for number, picture in enumerate(batch):
            scores = tuple(head_B[number] for head_B in scores_HB)
            found[picture.row] = Seen(vectors_BE[number].numpy(), scores)
        rows_done.add(len(batch))
    return [found[row] for row in range(len(images))]


def _prepare(item: tuple[int, Any], encoder: Encoder) -> Prepared | Unreadable:
    return prepare(*item, encoder)


def vectors_of(texts: Iterable[str], scorer: Scorer) -> dict[str, Array]:
    """Text -> (E,) float32. Texts of like length go together, so that little of a batch is filling."""
    found: dict[str, Array] = {}
    ordered = iter(sorted(texts, key=lambda text: (len(text), text)))
    while batch := list(islice(ordered, scorer.batch)):
        found |= zip(batch, scorer.encoder.texts(batch).numpy(), strict=True)
        rows_done.add(len(batch))
    return found


def _problem(picture: Seen | Unreadable, texts: Sequence[str], read: dict[str, Array]) -> tuple[str, str]:
    """(reason, detail) why a row can't be scored. Empty if it can."""
    if isinstance(picture, Unreadable):
        return picture.reason, picture.detail
    if not (np.isfinite(picture.vector_E).all() and np.isfinite(picture.heads).all()):
        return "bad-value", "the model gives NaN or infinity for the picture"
    bad = next((text for text in texts if text and not np.isfinite(read[text]).all()), None)
    return ("", "") if bad is None else ("bad-value", f"the model gives NaN or infinity for the caption {bad!r}")


def _columns(picture: Seen, texts: list[str], read: dict[str, Array], scorer: Scorer) -> dict[str, Any]:
    nothing_E = np.zeros(scorer.encoder.width, np.float32)
    vectors = [read.get(text, nothing_E) for text in texts]
    names = [head.name for head in scorer.heads]
    return {
        "num_texts": len(texts),
        "texts": texts,
        "similarity": [
            float(picture.vector_E @ own) if text else None for text, own in zip(texts, vectors, strict=True)
        ],
        "heads": [{"name": name, "value": value} for name, value in zip(names, picture.heads, strict=True)],
        "image_embedding": picture.vector_E,
        "text_embedding": np.concatenate([nothing_E[:0], *vectors]),
    }

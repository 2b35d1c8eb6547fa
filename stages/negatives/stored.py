"""The vectors of captions that stage `score` stored, placed beside the parts of an index: a row a caption.

Workers look them up shard by shard, and others place them part by part, in files that are mapped into memory. So no
process holds more than a shard's vectors and what SAMPLE of them take.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairloom.table import Array, Blob, metadata
from schemas.score import SCORE
from stages.contract import Corpus
from stages.gathered import Listed, opened
from stages.negatives.captions import captions_of, in_order, of_language, one_chunk
from stages.negatives.inverted import TABLE, open_table, parts_in
from stages.negatives.nearest import Vectors, axes, of_length_one, shortened
from stages.negatives.parts import Lang, write_table
from stages.negatives.table import find, fixed
from stages.negatives.veto_score import refuse_without

WIDTH = b"width"  # in a file's metadata: numbers of a vector
READ = {"curate": ("image_id", "captions"), "score": ("image_id", "texts", "text_embedding")}
SAMPLE = 20_000  # vectors that the main axes are found from. Ids are hashes, so that the first are like the others
BLOCK = 1 << 14  # vectors that are moved at once
Key = tuple[bytes, str]


@dataclass(frozen=True)
class Job:
    """A part of an index whose vectors are to be placed."""

    part: Path
    lang: Lang
    files: Listed  # of `looked_up`
    again: Listed  # of `looked_up_again`
    width: int
    main: Path | None  # the main axes, if short vectors are wanted for a search


def place(corpus: Corpus, folder: Path, langs: list[Lang], to_search: bool) -> None:
    """Write the vectors of all parts below folder/<number of the language>.

    Raises InputError if stage `score` stored no vectors of texts.
    """
    with TemporaryDirectory(dir=folder) as name:
        room, shards = Path(name), list(corpus.sizes("curate"))
        files = corpus.answers(READ, looked_up, dict.fromkeys(shards))
        elsewhere = _elsewhere(files, room / "elsewhere")
        asked = {"score": READ["score"]}
        again = corpus.answers(asked, looked_up_again, dict.fromkeys(shards, elsewhere)) if elsewhere else {}
        width = max((_width(opened(path)) for path in files.values()), default=0)
        main = _main_axes(files, width, room / "main.npy") if to_search else None
        listed = Listed.write(files.values(), room / "files"), Listed.write(again.values(), room / "again")
        jobs = [
            Job(folder / str(number) / str(part), lang, *listed, width, main)
            for number, lang in enumerate(langs)
            for part in parts_in(folder / str(number))
        ]
        corpus.each("placing vectors", placed, jobs)


def looked_up(curate: pa.Table, score: pa.Table, argument: None) -> pa.Table:
    """Of each caption, in order: image_id, caption_index, lang, vector, and the text where `score` has no vector here.

    vector: the bytes of float16. WIDTH is in the metadata.
    """
    captions, known, width = in_order(captions_of(curate)), vectors_by_text(score), int(metadata(score)["score_width"])
    vectors = pa.array([known.get(key) for key in _keys(captions)], pa.binary(2 * width))
    missing = pc.if_else(vectors.is_null(), one_chunk(captions["text"]), pa.scalar(None, pa.large_string()))
    found = captions.select(["image_id", "caption_index", "lang"])
    found = found.append_column("vector", vectors).append_column("text", missing)
    return found.replace_schema_metadata({WIDTH: str(width)})


def looked_up_again(score: pa.Table, argument: Path) -> pa.Table:
    """image_id, text and vector of the captions of a file (`_elsewhere`) that this shard of `score` has.

    Of pictures that were downloaded twice curate hands the captions over from one shard to another.
    """
    asked = opened(argument)
    here = asked.filter(pc.is_in(asked["image_id"], value_set=one_chunk(score["image_id"]))).combine_chunks()
    known = vectors_by_text(score) if len(here) else {}
    vectors = pa.array([known.get(key) for key in _keys(here)], pa.binary(2 * int(metadata(score)["score_width"])))
    return here.append_column("vector", vectors).filter(vectors.is_valid())


def vectors_by_text(score: pa.Table) -> dict[Key, bytes]:
    """(image, text) -> its vector."""
    refuse_without(score, "text_embedding")
    kind = SCORE.column("text_embedding").type
    assert isinstance(kind, Blob)
    size = 2 * int(metadata(score)["score_width"])
    packed = (vectors.tobytes() for vectors in kind.unpack(score["text_embedding"]))
    return {
        (image_id, text): own[number * size : (number + 1) * size]
        for image_id, texts, own in zip(score["image_id"].to_pylist(), score["texts"].to_pylist(), packed, strict=True)
        for number, text in enumerate(texts)
    }


def _keys(captions: pa.Table) -> Iterator[Key]:
    return zip(captions["image_id"].to_pylist(), captions["text"].to_pylist(), strict=True)


def _width(found: pa.Table) -> int:
    return int((found.schema.metadata or {})[WIDTH])


def _elsewhere(files: Mapping[str, Path], path: Path) -> Path | None:
    """A file of the captions (image_id, text) that have no vector in their own shard. None if all have one."""
    missing = (found.filter(pc.is_null(found["vector"])).select(["image_id", "text"]) for found in _opened(files))
    kept = [rows for rows in missing if len(rows)]
    return write_table(pa.concat_tables(kept).replace_schema_metadata(None), path) if kept else None


def _opened(files: Mapping[str, Path]) -> Iterator[pa.Table]:
    return map(opened, files.values())


def _main_axes(files: Mapping[str, Path], width: int, path: Path) -> Path:
    each = -(-SAMPLE // max(len(files), 1))
    drawn = [halves_of(found["vector"].drop_null().slice(0, each), width) for found in _opened(files)]
    together = np.concatenate([np.zeros((0, width), "<u2"), *drawn])
    np.save(path, axes(of_length_one(together)))
    return path


def halves_of(vectors: pa.ChunkedArray, width: int) -> Array:
    """uint16 (N, width). Zeros for a null."""
    nothing = pa.scalar(bytes(2 * width), pa.binary(2 * width))
    whole = one_chunk(pc.coalesce(vectors, nothing))
    flat = np.frombuffer(whole.buffers()[1] or b"", "<u2")[whole.offset * width : (whole.offset + len(whole)) * width]
    halves: Array = flat.reshape(-1, width)
    return halves


def placed(job: Job) -> None:
    """Write the vectors of a part, as open_vectors maps them."""
    captions = open_table(job.part / TABLE)
    kinds = {"halves": ("<u2", (len(captions), job.width)), "scales": ("<f4", (len(captions),))}
    main = None if job.main is None else np.load(job.main)
    kinds["short"] = ("<f4", (len(captions), 0 if main is None else main.shape[1] + 1))
    files = {
        name: np.lib.format.open_memmap(job.part / f"{name}.npy", "w+", np.dtype(kind), shape)
        for name, (kind, shape) in kinds.items()
    }
    _fill(files["halves"], captions, job)
    for start in range(0, len(captions), BLOCK):
        here = slice(start, start + BLOCK)
        unit = of_length_one(files["halves"][here])
        files["scales"][here] = scales_of(files["halves"][here])
        if main is not None:
            files["short"][here] = shortened(unit, main)
    for file in files.values():
        file.flush()


def vectors_of(halves: Array) -> Vectors:
    """Those of captions in memory, uint16 (N, E), as they are mapped from files: not to be written."""
    unit = of_length_one(halves)
    vectors = Vectors(np.ascontiguousarray(halves), scales_of(halves), shortened(unit, axes(unit[:SAMPLE])))
    for array in vectors:
        array.flags.writeable = False
    return vectors


def _fill(halves: Array, captions: pa.Table, job: Job) -> None:
    ids = fixed(captions["image_id"])
    if not len(ids):
        return
    later = _found_again(job.again, captions)
    for path in job.files.files():
        every = opened(path)
        known = fixed(every["image_id"])
        low, high = np.searchsorted(known, ids[0]), np.searchsorted(known, ids[-1], "right")
        own = every.slice(int(low), int(high - low))
        own = own.take(pa.array(of_language(own, job.lang)))
        there, numbers = find(captions, fixed(own["image_id"]), own["caption_index"].to_numpy())
        halves[numbers[there]] = halves_of(own["vector"], job.width)[there]
        for row in np.flatnonzero(own["vector"].is_null().to_numpy() & there) if later else ():
            key = own["image_id"][row].as_py(), own["text"][row].as_py()
            if key in later:
                halves[numbers[row]] = np.frombuffer(later[key], "<u2")


def _found_again(listed: Listed, captions: pa.Table) -> dict[Key, bytes]:
    """(image, text) -> the vector that was found in another shard, of the images of these captions."""
    found: dict[Key, bytes] = {}
    for path in listed.files():
        table = opened(path)
        own = table.filter(pc.is_in(table["image_id"], value_set=one_chunk(captions["image_id"])))
        for key, vector in zip(_keys(own), own["vector"].to_pylist(), strict=True):
            found.setdefault(key, vector)
    return found


def scales_of(halves: Array) -> Array:
    """float32 (N,): by which each vector of these float16 bits is multiplied to be of length 1. 0 for one of zeros."""
    lengths = np.linalg.norm(np.ascontiguousarray(halves).view(np.float16).astype(np.float64), axis=1)
    scales: Array = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0).astype(np.float32)
    return scales

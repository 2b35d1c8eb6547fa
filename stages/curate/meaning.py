"""Which of the rows that stay go by `max_cosine`, with the vectors of stage `score`."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairloom.errors import InputError
from pairloom.table import Blob, metadata
from schemas.score import SCORE
from stages.contract import Corpus
from stages.curate.columns import Array, Column, Positions
from stages.curate.config import Config
from stages.curate.semantic import semantic_duplicates
from stages.curate.survivors import Survivors

Verdicts = dict[int, dict[str, Any]]  # row -> reason and detail


def same_meaning(
    rows: Survivors, gone: Positions, there: Positions, config: Config, corpus: Corpus, folder: Path
) -> tuple[Positions, Positions, Verdicts]:
    """(rows that go, ascending; those that stay in their places; the verdicts on those that go by their meaning).

    gone, there: those that go before. Rows with the same bytes as an image that goes, or that look like it, go with it.
    """
    assert config.max_cosine is not None
    stays = np.arange(len(rows.rows))
    stays[gone] = there
    left = np.flatnonzero((stays == np.arange(len(stays))) & rows.pictured)
    with tempfile.TemporaryDirectory(dir=folder) as room:
        vectors = vectors_of(rows, left, corpus, Path(room) / "vectors")
        found = semantic_duplicates(vectors, config.max_cosine, config.clusters)
    roots = found.places.copy()
    while (chained := np.flatnonzero((roots >= 0) & (found.places[roots] >= 0))).size:
        roots[chained] = found.places[roots[chained]]  # towards one that stays: each step leads to an earlier image
    now = np.arange(len(stays))
    meant = np.flatnonzero(roots >= 0)
    now[left[meant]] = left[roots[meant]]
    verdicts = {
        int(left[place]): {
            "reason": "semantic-duplicate",
            "detail": f"of {bytes(rows.image_ids[left[found.places[place]]]).hex()}, cosine {found.cosines[place]:.4f}",
        }
        for place in meant.tolist()
    }
    verdicts |= {here: verdicts[there] for here, there in enumerate(stays.tolist()) if there in verdicts}
    stays = now[stays]
    goes = np.flatnonzero(stays != np.arange(len(stays)))
    return goes, stays[goes], verdicts


def vectors_of(rows: Survivors, asked: Array, corpus: Corpus, file: Path) -> Array:
    """(len(asked), E) float16, in a file: what stage `score` stored of these images, ascending.

    Raises InputError if it stored no vectors.
    """
    width, by_shard = 1, {rows.names[number]: own for number, own in rows.by_shard(asked)}
    with closing(Column(file, "<f2")) as column:
        for name, table in corpus.tables("score", ("image_id", "image_embedding"), by_shard):
            ids = pa.array([bytes(one) for one in rows.image_ids[by_shard[name]]], pa.binary(16))
            vectors = _looked_up(table, ids, f"table score, shard {name}")
            column.add(vectors.ravel())
            width = vectors.shape[1]
        return column.array().reshape(-1, width)


def _looked_up(table: pa.Table, ids: pa.Array, where: str) -> Array:
    """(len(ids), E) float16."""
    places = pc.index_in(ids, table["image_id"].combine_chunks())
    if table["image_embedding"].null_count or places.null_count:
        fix = "set score.image_embedding: true and run stage score again"
        raise InputError("table score lacks vectors of pictures", where, fix)
    kind = SCORE.column("image_embedding").type
    assert isinstance(kind, Blob)
    return np.stack(kind.unpack(table["image_embedding"].take(places), metadata(table)))

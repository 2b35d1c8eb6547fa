"""The veto by a model: a caption that a dual encoder finds similar to the picture may well be true of it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairloom.compiled import compiled
from pairloom.errors import InputError
from pairloom.table import Array, Blob, metadata
from schemas.score import SCORE
from stages.negatives.captions import one_chunk
from stages.negatives.inverted import Index
from stages.negatives.mining import Neighbours
from stages.negatives.nearest import Vectors, cosine, of_length_one
from stages.negatives.veto import Veto


def by_score(index: Index, part: int, captions: Array, pictures: Array, above: float) -> Veto:
    """`veto: score`: of captions whose cosine to the picture is above a number.

    pictures: uint16 (captions, E), the bits of the float16 vector of each one's picture. What has a vector of zeros,
    which stands for none, stays. The parts of the index have the vectors of their captions.
    """
    owners = index.parts[part].captions.owners[captions]
    _, first, picture_of = np.unique(owners, return_index=True, return_inverse=True)
    whole = of_length_one(pictures[first])

    def veto(rows: Array, found: Neighbours) -> Array:
        asking = np.repeat(picture_of[rows], found.counts)
        stays = np.ones(len(asking), np.bool_)
        for into, here, numbers in index.split(found.places):
            assert into.vectors is not None
            stays[here] = _differs(whole, asking[here], numbers, into.vectors, np.float32(above))
        return stays

    return veto


@compiled
def _differs(pictures: Array, asking: Array, places: Array, vectors: Vectors, above: np.float32) -> Array:
    """Of each pair whether the cosine of picture and caption is not above the number, or unknown, bool."""
    stays, scratch = np.ones(len(asking), np.bool_), np.empty(pictures.shape[1], np.int32)
    known = np.zeros(len(pictures), np.bool_)
    for picture in range(len(pictures)):
        known[picture] = pictures[picture].any()
    for pair in range(len(asking)):
        place = places[pair]
        if known[asking[pair]] and vectors.scales[place] > 0:
            stays[pair] = not cosine(vectors, place, pictures[asking[pair]], scratch) > above
    return stays


def pictures_of(images: pa.Table, score: pa.Table) -> Array:
    """uint16 (images, E): the bits of the vector of each picture (column image_id), zeros where table score has none.

    Raises InputError if stage `score` stored none.
    """
    refuse_without(score, "image_embedding")
    kind = SCORE.column("image_embedding").type
    assert isinstance(kind, Blob)
    stored = [vector.view("<u2") for vector in kind.unpack(score["image_embedding"])]
    places = one_chunk(pc.index_in(images["image_id"], value_set=one_chunk(score["image_id"])))
    width = int(metadata(score)["score_width"])
    every = np.stack([*stored, np.zeros(width, "<u2")])  # the last is that of the others
    found: Array = every[pc.fill_null(places, len(stored)).to_numpy(zero_copy_only=False)]
    return found


def refuse_without(score: pa.Table, column: str) -> None:
    """Raises InputError if stage `score` did not store these vectors."""
    if score[column].null_count:
        whose = {"image_embedding": "pictures", "text_embedding": "texts"}[column]
        fix = f"set score.{column}: true and run stage score again"
        raise InputError(f"the table has no vectors of {whose}", "table score", fix)

"""The captions of one language in the order that decides ties, and the distinct texts among them.

Letters: C captions, D distinct texts (documents), I images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import InputError
from stages.negatives.words import normalise

Array = npt.NDArray[Any]

# What `captions_of` returns and everything here starts from: one row a caption, image_id of any sortable type.
COLUMNS = ("image_id", "caption_index", "text", "lang")


@dataclass(frozen=True)
class Captions:
    """The captions of one language, sorted by image_id and caption_index; a caption's number is its position."""

    table: pa.Table  # columns image_id, caption_index (uint16), text; one chunk
    images: Array  # int32 (C,): number of the caption's image, in the order of the ids
    documents: Array  # int32 (C,): number of its normalised text, in the order of first appearance
    starts: Array  # int64 (D + 1,): document d is the text of the captions members[starts[d]:starts[d + 1]]
    members: Array  # int32 (C,): ascending within a document
    texts_of_image: Array  # int32 (I,): distinct texts of the image

    @property
    def copies(self) -> Array:
        """How many captions have each document as their text, int64 (D,)."""
        return np.diff(self.starts)


def captions_of(pairs: pa.Table) -> pa.Table:
    """One row a caption from one row an image (columns image_id, captions)."""
    captions = pairs["captions"].combine_chunks()
    rows = pc.list_parent_indices(captions)
    return table_of(
        pairs["image_id"].take(rows),
        positions(rows.to_numpy()),
        *(pc.struct_field(pc.list_flatten(captions), name) for name in ("text", "lang")),
    )


def table_of(image_ids: Any, indexes: Array, texts: Any, langs: Any) -> pa.Table:
    return pa.table(
        {
            "image_id": image_ids,
            "caption_index": pa.array(indexes).cast(pa.uint16()),
            "text": pa.array(texts, pa.large_string()) if isinstance(texts, list) else texts.cast(pa.large_string()),
            "lang": pa.array(langs, pa.string()) if isinstance(langs, list) else langs,
        }
    )


def positions(rows: Array) -> Array:
    """0, 1, 2 … within each run of equal rows."""
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    return np.arange(len(rows)) - np.repeat(starts, np.diff(starts, append=len(rows)))


def languages(captions: pa.Table) -> list[str | None]:
    """The languages in alphabetical order, null last; captions whose language is unknown are among themselves."""
    known = captions["lang"].unique().to_pylist()
    return sorted(lang for lang in known if lang is not None) + ([None] if None in known else [])


def of_language(captions: pa.Table, lang: str | None) -> Array:
    """Rows of the captions in this language, in order."""
    mask = pc.is_null(captions["lang"]) if lang is None else pc.fill_null(pc.equal(captions["lang"], lang), False)
    rows: Array = np.flatnonzero(mask.to_numpy())
    return rows


def arrange(captions: pa.Table) -> Captions:
    """Sort and number the captions of one language. Raises InputError if an image_id has a caption index twice."""
    table = captions.select(["image_id", "caption_index", "text"])
    table = table.sort_by([("image_id", "ascending"), ("caption_index", "ascending")]).combine_chunks()
    images = _runs(table["image_id"])
    _refuse_repeated(table, images)
    normalised = pa.array((normalise(text) for text in table["text"].to_pylist()), pa.large_string(), size=len(table))
    documents = normalised.dictionary_encode().indices.to_numpy()
    members = np.argsort(documents, kind="stable").astype(np.int32)
    num_documents = int(documents.max()) + 1 if len(documents) else 0
    starts = np.searchsorted(documents[members], np.arange(num_documents + 1))
    pairs = np.unique(images.astype(np.int64) * max(num_documents, 1) + documents)
    texts_of_image = np.bincount(pairs // max(num_documents, 1)).astype(np.int32)
    return Captions(table, images, documents.astype(np.int32), starts.astype(np.int64), members, texts_of_image)


def distinct_texts(captions: Captions) -> list[str]:
    """The normalised text of each document."""
    first = captions.members[captions.starts[:-1]]
    return [normalise(text) for text in captions.table["text"].take(pa.array(first)).to_pylist()]


def _runs(ids: pa.ChunkedArray) -> Array:
    """Number the runs of equal ids."""
    if len(ids) == 0:
        return np.empty(0, np.int32)
    ids = ids.combine_chunks()
    changed = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
    return np.concatenate([[0], np.cumsum(changed)]).astype(np.int32)


def _refuse_repeated(table: pa.Table, images: Array) -> None:
    indexes = table["caption_index"].to_numpy()
    repeated = np.flatnonzero((np.diff(images) == 0) & (np.diff(indexes.astype(np.int64)) == 0))
    if len(repeated):
        image_id = table["image_id"][int(repeated[0])].as_py()
        raise InputError(
            f"image {image_id.hex() if isinstance(image_id, bytes) else image_id} is there more than once",
            where=f"caption {indexes[repeated[0]]} of {len(table)} captions read",
            fix="give each image one row with all its captions (the stage curate merges equal images)",
        )

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

from pairloom.errors import InputError
from stages.negatives.text import normalised
from stages.split import Split

Array = npt.NDArray[Any]
ORDER = [("image_id", "ascending"), ("caption_index", "ascending")]


@dataclass(frozen=True)
class Captions:
    """Captions of one language, sorted by image_id and caption_index. A caption's number is its position.

    Near-duplicate images are one image here: their captions are never each other's negatives.
    """

    table: (
        pa.Table
    )  # columns image_id, caption_index (uint16), text, and looks_like where near duplicates are known, one chunk
    images: Array  # int32 (C,): number of the caption's image, in the order of the ids
    documents: Array  # int32 (C,): number of its normalised text, in the order of first appearance
    starts: Array  # int64 (D + 1,): document d is the text of the captions members[starts[d]:starts[d + 1]]
    members: Array  # int32 (C,): ascending within a document
    sole: Array  # int32 (D,): the image that all captions of the document are of, or -1
    texts_of_image: Array  # int32 (I,): distinct texts of the image
    shared_of_image: Array  # int32 (I,): those of them that other images have too
    owners: Array  # int32 (C,): number of the image itself, which may look like that of `images`, ascending
    texts_of_owner: Array  # int32: distinct texts of each of these
    trained: Array  # bool (C,): whether the image is one to train on
    heads: Array  # int32 (2, D): the first caption of each document, and its first to train on or -1

    @property
    def copies(self) -> Array:
        """How many captions have each document as their text, int64 (D,)."""
        return np.diff(self.starts)


def captions_of(pairs: pa.Table) -> pa.Table:
    """One row a caption from one row an image: image_id, captions, and looks_like and trained where they are."""
    captions = pairs["captions"].combine_chunks()
    rows = pc.list_parent_indices(captions)
    parts = (pc.struct_field(pc.list_flatten(captions), name) for name in ("text", "lang"))
    table = table_of(pairs["image_id"].take(rows), positions(rows.to_numpy()), *parts)
    for name in ("looks_like", "trained"):
        if name in pairs.column_names:
            table = table.append_column(name, pairs[name].take(rows))
    return table


def with_trained(images: pa.Table, split: Split) -> pa.Table:
    """The table with a column `trained`: whether the image of each row is one to train on."""
    return images.append_column("trained", pa.array([one == "train" for one in split.of_rows(images)], pa.bool_()))


def table_of(image_ids: Any, indexes: Array, texts: Any, langs: Any) -> pa.Table:
    """One row a caption: image_id of any sortable type, caption_index, text and lang (null if unknown)."""
    return pa.table(
        {
            "image_id": image_ids,
            "caption_index": pa.array(indexes).cast(pa.uint16()),
            "text": pa.array(texts, pa.large_string()) if isinstance(texts, list) else texts.cast(pa.large_string()),
            "lang": pa.array(langs, pa.string()) if isinstance(langs, list) else langs.cast(pa.string()),
        }
    )


def positions(rows: Array) -> Array:
    """0, 1, 2 … within each run of equal rows."""
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    return np.arange(len(rows)) - np.repeat(starts, np.diff(starts, append=len(rows)))


def languages(captions: pa.Table) -> list[str | None]:
    """The languages in alphabetical order, null last. Captions whose language is unknown are among themselves."""
    known = captions["lang"].unique().to_pylist()
    return sorted(lang for lang in known if lang is not None) + ([None] if None in known else [])


def id_bytes(ids: pa.Array) -> Array:
    """(N, width) uint8, the bytes of ids of one width."""
    width = ids.type.byte_width
    raw = np.frombuffer(ids.buffers()[1] or b"", np.uint8)[ids.offset * width : (ids.offset + len(ids)) * width]
    rows: Array = raw.reshape(-1, width)
    return rows


def of_language(captions: pa.Table, lang: str | None) -> Array:
    """Rows of the captions in this language, in order."""
    mask = pc.is_null(captions["lang"]) if lang is None else pc.fill_null(pc.equal(captions["lang"], lang), False)
    rows: Array = np.flatnonzero(mask.to_numpy())
    return rows


def in_order(captions: pa.Table) -> pa.Table:
    """The captions sorted by image_id and caption_index, in one chunk."""
    return captions.take(pc.sort_indices(captions, sort_keys=ORDER)).combine_chunks()


def arrange(captions: pa.Table) -> tuple[Captions, pa.Array]:
    """Number captions that are `in_order`, all of one language, and the normalised text of each document.

    Raises InputError if an image_id has a caption index twice.
    """
    table = captions.select([name for name in captions.column_names if name not in ("lang", "trained")])
    _refuse_repeated(table)
    images = _numbers(table["looks_like" if "looks_like" in table.column_names else "image_id"])
    trained = captions["trained"].to_numpy() if "trained" in captions.column_names else np.ones(len(table), np.bool_)
    encoded = normalised(one_chunk(table["text"])).dictionary_encode()
    documents, texts = encoded.indices.to_numpy().astype(np.int32), encoded.dictionary
    members = np.argsort(documents, kind="stable").astype(np.int32)
    starts = np.searchsorted(documents[members], np.arange(len(texts) + 1)).astype(np.int64)
    pairs = np.unique(images.astype(np.int64) * max(len(texts), 1) + documents)
    image, document = np.divmod(pairs, max(len(texts), 1))
    alone = np.bincount(document, minlength=len(texts)) == 1
    sole = np.full(len(texts), -1, np.int32)
    sole[document] = np.where(alone[document], image, -1)
    of_image = np.bincount(image).astype(np.int32)
    shared = np.bincount(image, weights=~alone[document]).astype(np.int32)
    heads = np.stack([members[starts[:-1]], _first_trained(members, documents, trained, len(texts))])
    owners, of_owner = images, of_image
    if "looks_like" in table.column_names:
        owners = _numbers(table["image_id"])
        own = np.unique(owners.astype(np.int64) * max(len(texts), 1) + documents) // max(len(texts), 1)
        of_owner = np.bincount(own).astype(np.int32)
    counted = of_image, shared, owners, of_owner
    return Captions(table, images, documents, starts, members, sole, *counted, trained, heads), texts


def _first_trained(members: Array, documents: Array, trained: Array, number: int) -> Array:
    """int32 (D,): of each document the first caption to train on, or -1."""
    first = np.full(number, -1, np.int32)
    own = members[trained[members]][::-1]  # of several that are written to one place the last stays
    first[documents[own]] = own
    return first


def one_chunk(column: pa.ChunkedArray) -> pa.Array:
    """The column as one array, copied only if it is in several."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _numbers(ids: pa.ChunkedArray) -> Array:
    """The rank of each id among the distinct ones, int32."""
    if len(ids) == 0:
        return np.empty(0, np.int32)
    numbers: Array = pc.rank(ids, tiebreaker="dense").to_numpy().astype(np.int32) - 1
    return numbers


def _refuse_repeated(table: pa.Table) -> None:
    ids, indexes = one_chunk(table["image_id"]), one_chunk(table["caption_index"])
    if len(table) < 2:
        return
    same = pc.and_(pc.equal(ids[1:], ids[:-1]), pc.equal(indexes[1:], indexes[:-1]))
    row = same.index(True).as_py()
    if row >= 0:
        image_id = ids[row].as_py()
        raise InputError(
            f"image {image_id.hex() if isinstance(image_id, bytes) else image_id} is listed more than once",
            where=f"its caption {indexes[row].as_py()}, of {len(table)} captions read",
            fix="give each image one row with all its captions (the stage curate merges equal images)",
        )

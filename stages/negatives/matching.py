"""Find captions of one part in another: equal texts, equal images, and captions by their id."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pairloom.compiled import compiled
from stages.negatives.text import bytes_of, normalised

Array = npt.NDArray[Any]


def text_hashes(texts: pa.Array) -> Array:
    """A 64-bit hash of each text (FNV-1a over its UTF-8 bytes), uint64."""
    hashes: Array = _hash(*bytes_of(texts))
    return hashes


@compiled
def _hash(offsets: Array, data: Array) -> Array:
    hashes = np.empty(len(offsets) - 1, np.uint64)
    for text in range(len(hashes)):
        value = np.uint64(14695981039346656037)
        for at in range(offsets[text], offsets[text + 1]):
            value = (value ^ np.uint64(data[at])) * np.uint64(1099511628211)
        hashes[text] = value
    return hashes


def document_texts(captions: Any, documents: Array) -> pa.Array:
    """The normalised texts of these documents."""
    first = captions.members[captions.starts[documents]]
    return normalised(captions.table["text"].take(pa.array(first)).combine_chunks())


def same_text(source: Any, documents: Array, target: Any) -> Array:
    """For each of the source's documents the target's with the same normalised text, or -1, int64."""
    if source is target:
        return documents.astype(np.int64)
    if len(target.hashes) == 0 or len(documents) == 0:
        return np.full(len(documents), -1)
    texts = document_texts(source.captions, documents)
    hashes = text_hashes(texts)
    found = np.minimum(np.searchsorted(target.hashes, hashes), len(target.hashes) - 1)
    alike = np.full(len(documents), -1)
    # Two texts of one hash (2^-64 a pair) would be distinguished, but only the first of the target's is looked at.
    likely = np.flatnonzero(target.hashes[found] == hashes)
    theirs = target.by_hash[found[likely]].astype(np.int64)
    equal = pc.equal(texts.take(pa.array(likely)), document_texts(target.captions, theirs)).to_numpy(False)
    alike[likely[equal]] = theirs[equal]
    return alike


def same_image(source: Any, captions: Array, target: Any) -> Array:
    """For each of the source's captions the target's number of its image, or -1, int64."""
    if source is target:
        return np.asarray(source.captions.images[captions], np.int64)
    name = "looks_like" if "looks_like" in source.captions.table.column_names else "image_id"
    ids = source.captions.table[name].take(pa.array(captions)).combine_chunks()
    rows = pc.index_in(ids, value_set=target.captions.table[name].combine_chunks())
    known = pc.fill_null(rows, 0).to_numpy()
    if len(target.captions.images) == 0:
        return np.full(len(captions), -1)
    return np.where(rows.is_valid().to_numpy(False), target.captions.images[known], -1).astype(np.int64)

"""The best documents of each query so far: compiled heaps whose root is the worst one, side by side in flat arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pairloom.compiled import compiled

Array = npt.NDArray[Any]


@compiled
def offer(documents: Array, similarities: Array, size: int, similarity: np.float32, document: int) -> int:
    """Put a candidate into the heap, or leave it if all are better and there is no room. Returns the heap's size."""
    if size < len(documents):
        documents[size], similarities[size] = document, similarity
        _rise(documents, similarities, size)
        return size + 1
    if _worse(similarities[0], documents[0], similarity, document):
        documents[0], similarities[0] = document, similarity
        _sink(documents, similarities, size)
    return size


@compiled
def sort(documents: Array, similarities: Array, size: int) -> None:
    """Turn the heap into a list, best first: the worst goes to the end, again and again."""
    for end in range(size - 1, 0, -1):
        _swap(documents, similarities, 0, end)
        _sink(documents, similarities, end)


@compiled
def _worse(similarity: np.float32, document: int, other_similarity: np.float32, other_document: int) -> bool:
    return bool(similarity < other_similarity or (similarity == other_similarity and document > other_document))


@compiled
def _swap(documents: Array, similarities: Array, one: int, other: int) -> None:
    documents[one], documents[other] = documents[other], documents[one]
    similarities[one], similarities[other] = similarities[other], similarities[one]


@compiled
def _rise(documents: Array, similarities: Array, at: int) -> None:
    while at > 0:
        parent = (at - 1) // 2
        if not _worse(similarities[at], documents[at], similarities[parent], documents[parent]):
            return
        _swap(documents, similarities, at, parent)
        at = parent


@compiled
def _sink(documents: Array, similarities: Array, size: int) -> None:
    at = 0
    while 2 * at + 1 < size:
        child = 2 * at + 1
        right = child + 1
        if right < size and _worse(similarities[right], documents[right], similarities[child], documents[child]):
            child = right
        if not _worse(similarities[child], documents[child], similarities[at], documents[at]):
            return
        _swap(documents, similarities, at, child)
        at = child

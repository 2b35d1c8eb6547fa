"""The compiled search: for each query the best documents between floor and ceiling, exactly.

Documents are taken in blocks whose sums fit the processor's L2 cache, and all queries of a call pass over a block
before the next one is taken, so that its postings stay in cache as well. The terms of a query come rarest first.

Pruning, and why it is exact: once a query has as many candidates as it needs, the last of them has a similarity
that a new one must reach. The frequent terms at the query's end which together cannot reach it (each has at most
`query weight × largest weight in any document`) are not read from the postings. A document that has none of
the other terms cannot be a candidate; one that has is finished from its own vector, if it can still get there.

Nothing depends on the block size: each sum adds the same float64 products in the same order, rare terms first,
whichever way they were found, and a similarity is that sum rounded to float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numba
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Function = TypeVar("Function", bound=Callable[..., Any])

BLOCK = 1 << 16  # documents; their float64 sums take 512 KB
SLACK = 1 + 1e-9  # a bound is a rounded sum too: far more than 10,000 additions can be off

NO_LIMIT = np.float32(-1)


def compiled(function: Function) -> Function:
    """numba's compiler, the result kept for the next process where there is a folder to keep it in."""
    jit: Callable[..., Any] = numba.njit  # its own types would hide the function's
    try:
        kept: Function = jit(cache=True, nogil=True)(function)
    except RuntimeError:  # "no locator available": neither beside the file nor in the user's cache folder
        forgotten: Function = jit(nogil=True)(function)
        return forgotten
    return kept


class Postings(NamedTuple):
    """The index of one language as the kernel sees it; arrays as in vectors.py and inverted.py."""

    starts: Array  # int64 (D + 1,)
    terms: Array  # int32 (P,)
    weights: Array  # float64 (P,)
    query_weights: Array  # float64 (P,)
    posting_starts: Array  # int64 (V + 1,)
    posting_documents: Array  # int32 (P,), ascending within a term
    posting_weights: Array  # float64 (P,)
    largest: Array  # float64 (V,): largest weight of the term in any document, at least 0
    prunable: bool  # no weight is negative


class Members(NamedTuple):
    """Which captions have which text, as in captions.py."""

    images: Array  # int32 (C,)
    starts: Array  # int64 (D + 1,)
    members: Array  # int32 (C,)


@compiled
def search(
    postings: Postings, queries: Array, wanted: Array, floor: np.float32, ceiling: np.float32, block: int
) -> tuple[Array, Array, Array]:
    """(sizes (Q,), documents (Q, K), similarities (Q, K)): for query q the wanted[q] best other documents.

    queries: int64 (Q,), documents themselves; wanted: int64 (Q,), ≥ 1, K is the largest. Best first: higher
    similarity, then lower document. Only documents with floor < similarity < ceiling.
    """
    num_queries, width = len(queries), wanted.max() if len(wanted) else 0
    sizes = np.zeros(num_queries, np.int64)
    documents = np.zeros((num_queries, width), np.int32)
    similarities = np.zeros((num_queries, width), np.float32)
    firsts, rest, cursors = _prepare(postings, queries)
    sums, touched, everything = (
        np.zeros(block, np.float64),
        np.zeros(block + 1, np.int32),
        np.arange(block, dtype=np.int32),
    )
    pending = np.zeros(len(postings.largest), np.float64)
    num_documents = len(postings.starts) - 1
    for low in range(0, num_documents, block):
        high = min(low + block, num_documents)
        for q in range(num_queries):
            heap = (documents[q, : wanted[q]], similarities[q, : wanted[q]])
            own = slice(firsts[q], firsts[q + 1])
            least = heap[1][0] if sizes[q] == wanted[q] else NO_LIMIT
            split = _split(rest[own], floor, least, postings.prunable)
            if split == 0:
                continue
            met = _accumulate(postings, queries[q], cursors[own], split, low, high, sums, touched)
            found = touched[:met] if postings.prunable else everything[: high - low]
            sizes[q] = _select(
                postings, queries[q], split, rest[own][split], low, sums, found, pending, floor, ceiling, heap, sizes[q]
            )
    for q in range(num_queries):
        _sort(documents[q], similarities[q], sizes[q])
    return sizes, documents, similarities


@compiled
def _prepare(postings: Postings, queries: Array) -> tuple[Array, Array, Array]:
    """(firsts, rest, cursors): where a query's own numbers start, what its terms from each on can add at most,

    and where in the postings each of its terms has got to. A query has one number more than terms (rest 0 at the end).
    """
    firsts = np.zeros(len(queries) + 1, np.int64)
    for q in range(len(queries)):
        firsts[q + 1] = firsts[q] + postings.starts[queries[q] + 1] - postings.starts[queries[q]] + 1
    rest, cursors = np.zeros(firsts[-1], np.float64), np.zeros(firsts[-1], np.int64)
    for q in range(len(queries)):
        start, num_terms = postings.starts[queries[q]], firsts[q + 1] - firsts[q] - 1
        for j in range(num_terms - 1, -1, -1):
            term = postings.terms[start + j]
            cursors[firsts[q] + j] = postings.posting_starts[term]
            most = postings.query_weights[start + j] * postings.largest[term]
            rest[firsts[q] + j] = rest[firsts[q] + j + 1] + most
    return firsts, rest, cursors


@compiled
def _hopeless(bound: float, floor: np.float32, least: np.float32) -> bool:
    """Whether a similarity of at most `bound` is none for this query any more."""
    most = np.float32(bound * SLACK)
    return bool(most <= floor or most < least)


@compiled
def _split(rest: Array, floor: np.float32, least: np.float32, prunable: bool) -> int:
    """How many of the query's terms a new candidate must have one of; the others can't lift it alone."""
    split = len(rest) - 1
    while prunable and split > 0 and _hopeless(rest[split - 1], floor, least):
        split -= 1
    return split


@compiled
def _accumulate(
    postings: Postings, query: int, cursors: Array, split: int, low: int, high: int, sums: Array, touched: Array
) -> int:
    """Add the first `split` terms' products for the documents low … high - 1; returns how many were met."""
    met = 0
    step = 1 if postings.prunable else 0  # negative weights may bring a sum back to 0: the caller looks at all of them
    start = postings.starts[query]
    for j in range(split):
        end = postings.posting_starts[postings.terms[start + j] + 1]
        weight = postings.query_weights[start + j]
        at = cursors[j]
        while at < end and postings.posting_documents[at] < high:
            place = postings.posting_documents[at] - low
            touched[met] = place
            met += step * (sums[place] == 0.0)  # without a branch: whether it is new can't be predicted
            sums[place] += weight * postings.posting_weights[at]
            at += 1
        cursors[j] = at
    return met


@compiled
def _select(
    postings: Postings,
    query: int,
    split: int,
    more: float,
    low: int,
    sums: Array,
    touched: Array,
    pending: Array,
    floor: np.float32,
    ceiling: np.float32,
    heap: tuple[Array, Array],
    size: int,
) -> int:
    """Offer the documents that were met to the heap; resets their sums; returns the heap's new size.

    more: what the terms from `split` on, which were not read, can add at most.
    """
    first, last = postings.starts[query] + split, postings.starts[query + 1]
    for at in range(first, last):
        pending[postings.terms[at]] = postings.query_weights[at]
    for place in touched:
        total = sums[place]
        sums[place] = 0.0
        least = heap[1][0] if size == len(heap[0]) else NO_LIMIT
        if low + place == query or _hopeless(total + more, floor, least):
            continue
        if first < last:
            total = _finish(postings, low + place, postings.terms[first], pending, total)
        similarity = np.float32(total)
        if floor < similarity < ceiling:
            size = _offer(heap[0], heap[1], size, similarity, low + place)
    for at in range(first, last):
        pending[postings.terms[at]] = 0.0
    return size


@compiled
def _finish(postings: Postings, document: int, first_term: int, pending: Array, total: float) -> float:
    """`total` and the products of the terms from `first_term` on, from the document's own vector."""
    start, end = postings.starts[document], postings.starts[document + 1]
    at = end
    while at > start and postings.terms[at - 1] >= first_term:
        at -= 1
    for pair in range(at, end):
        weight = pending[postings.terms[pair]]
        if weight != 0.0:
            total += weight * postings.weights[pair]
    return total


@compiled
def _offer(documents: Array, similarities: Array, size: int, similarity: np.float32, document: int) -> int:
    """Put a candidate into the heap, whose root is the worst, or leave it; returns the heap's new size."""
    if size < len(documents):
        documents[size], similarities[size] = document, similarity
        _rise(documents, similarities, size)
        return size + 1
    if _worse(similarities[0], documents[0], similarity, document):
        documents[0], similarities[0] = document, similarity
        _sink(documents, similarities, size)
    return size


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


@compiled
def _sort(documents: Array, similarities: Array, size: int) -> None:
    """Turn the heap into a list, best first: the worst goes to the end, again and again."""
    for end in range(size - 1, 0, -1):
        _swap(documents, similarities, 0, end)
        _sink(documents, similarities, end)


@compiled
def spread(
    captions: Array, found: Array, sizes: Array, documents: Array, similarities: Array, members: Members, top_k: int
) -> tuple[Array, Array, Array]:
    """(counts (C,), captions (C, top_k), similarities (C, top_k)): the hard negatives of each caption.

    captions: int64 (C,), caption numbers; found: int64 (C,), the row of sizes, documents and similarities (what
    `search` returned) that belongs to the caption's text. Captions of its own image are left out. Best first: higher
    similarity, then lower caption number.
    """
    counts = np.zeros(len(captions), np.int64)
    chosen = np.zeros((len(captions), top_k), np.int32)
    values = np.zeros((len(captions), top_k), np.float32)
    tied = np.zeros(documents.shape[1] * top_k, np.int32)  # captions of equal similarity, whatever their texts
    for c in range(len(captions)):
        image, row = members.images[captions[c]], found[c]
        at = 0
        while at < sizes[row] and counts[c] < top_k:
            similarity, num_tied = similarities[row, at], 0
            while at < sizes[row] and similarities[row, at] == similarity:
                num_tied = _gather(members, documents[row, at], image, top_k - counts[c], tied, num_tied)
                at += 1
            tied[:num_tied].sort()
            taken = min(num_tied, top_k - counts[c])
            chosen[c, counts[c] : counts[c] + taken] = tied[:taken]
            values[c, counts[c] : counts[c] + taken] = similarity
            counts[c] += taken
    return counts, chosen, values


@compiled
def _gather(members: Members, document: int, image: int, most: int, tied: Array, num_tied: int) -> int:
    """Append the first `most` captions that have this text and are not of this image; returns the new length."""
    end = num_tied + most
    for at in range(members.starts[document], members.starts[document + 1]):
        if num_tied == end:
            break
        caption = members.members[at]
        if members.images[caption] != image:
            tied[num_tied] = caption
            num_tied += 1
    return num_tied

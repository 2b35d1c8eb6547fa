"""The inverted index of some documents: for each term and block of documents who has it, by how much it can matter.

Letters: D documents, V terms, P (document, term) pairs, S segments: one for each term in each block that has it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pairloom.compiled import compiled

Array = npt.NDArray[Any]

BLOCK = 1 << 16  # documents. A posting has 16 bits for its place in the block
LEVELS = 256  # a posting has 8 bits for each of three numbers
STEP = 0.98  # between two levels: numbers from the largest down to 0.006 of it are at most 2 % too large


class Postings(NamedTuple):
    """Vectors by document and by term.

    A posting is two uint64. The first has the document's place in its block (16 bits) and three numbers as levels,
    which round up (8 bits each): from bit 16 the length of the document's vector from this term on, every weight
    divided by its term's `scale`; from bit 24 the term's weight; from bit 32 the largest of the later terms' weights,
    each divided by its term's `usual`. The second is the signature of the later terms, a bit each (bit_of).
    Within a segment the longest come first, among equals the lower document.
    """

    starts: Array  # int64 (D + 1,): document d has the pairs starts[d] … starts[d + 1] - 1
    terms: Array  # int32 (P,): ascending within a document. A term's number is its rank by rarity
    weights: Array  # float64 (P,)
    segment_starts: Array  # int64 (V + 1,): the segments of each term
    segments: Array  # int64 (S, 2): block << 32 | postings, and where they begin
    packed: Array  # uint64 (P, 2): block by block, term by term
    levels: Array  # float64 (3, LEVELS): what a level stands for: 0, then ascending
    block: Array  # int64 (1,): documents in a block


@compiled
def bit_of(term: int) -> np.uint64:
    """The term's bit in a signature, 0 to 63."""
    return (np.uint64(term) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(58)


@compiled
def level_of(posting: np.uint64, number: int) -> np.uint64:
    """The level of one of the three numbers: 0 length, 1 weight, 2 later weights."""
    return (posting >> np.uint64(16 + 8 * number)) & np.uint64(0xFF)


def invert(starts: Array, terms: Array, weights: Array, scale: Array, usual: Array, block: int = BLOCK) -> Postings:
    """Index these vectors. scale, usual: float64 (V,), positive. They change how close the bounds are, not the result.

    scale: makes the vectors of queries (times scale) and documents (by scale) alike. usual: weights divided by it are
    about the same for all terms of a document.
    """
    most = _most(starts, terms, weights, scale, usual)
    levels = np.concatenate([np.zeros((3, 1)), most[:, None] * STEP ** np.arange(LEVELS - 2, -1, -1.0)], axis=1)
    unordered = _pack(starts, terms, weights, scale, usual, levels, block)
    segment_starts, segments, packed = _arrange(starts, terms, unordered, len(scale), block)
    return Postings(starts, terms, weights, segment_starts, segments, packed, levels, np.array([block]))


@compiled
def _most(starts: Array, terms: Array, weights: Array, scale: Array, usual: Array) -> Array:
    """The largest of each of the three numbers, float64 (3,), a hair more."""
    most = np.zeros(3)
    for document in range(len(starts) - 1):
        square = 0.0
        for at in range(starts[document], starts[document + 1]):
            weight = abs(weights[at])
            square += (weight / scale[terms[at]]) ** 2
            most[1] = max(most[1], weight)
            most[2] = max(most[2], weight / usual[terms[at]])
        most[0] = max(most[0], np.sqrt(square))
    return most * (1 + 1e-9)


@compiled
def _pack(starts: Array, terms: Array, weights: Array, scale: Array, usual: Array, levels: Array, block: int) -> Array:
    """The posting of each pair, in the order of the pairs."""
    packed = np.empty((len(terms), 2), np.uint64)
    for document in range(len(starts) - 1):
        signature, square, later = np.uint64(0), 0.0, 0.0
        for at in range(starts[document + 1] - 1, starts[document] - 1, -1):
            term, weight = terms[at], abs(weights[at])
            square += (weight / scale[term]) ** 2
            numbers = (np.sqrt(square), weight, later)
            posting = np.uint64(document % block)
            for number in range(3):
                level = min(np.searchsorted(levels[number], numbers[number]), LEVELS - 1)
                posting |= np.uint64(level) << np.uint64(16 + 8 * number)
            packed[at, 0], packed[at, 1] = posting, signature
            signature |= np.uint64(1) << bit_of(term)
            later = max(later, weight / usual[term])
    return packed


@compiled
def _arrange(starts: Array, terms: Array, unordered: Array, num_terms: int, block: int) -> tuple[Array, Array, Array]:
    """(segment_starts, segments, packed): each block's postings by term, and where each term's segments lie."""
    num_documents = len(starts) - 1
    segment_starts = np.zeros(num_terms + 1, np.int64)
    counts = np.zeros(num_terms, np.int64)
    for low in range(0, num_documents, block):
        _count(terms[starts[low] : starts[min(low + block, num_documents)]], counts)
        segment_starts[1:] += counts > 0
    segment_starts = np.cumsum(segment_starts)
    segments = np.empty((segment_starts[-1], 2), np.int64)
    filled = segment_starts[:-1].copy()
    packed = np.empty((len(terms), 2), np.uint64)
    places = np.zeros(num_terms, np.int64)
    for low in range(0, num_documents, block):
        first, last = starts[low], starts[min(low + block, num_documents)]
        _count(terms[first:last], counts)
        begin = first
        for term in range(num_terms):
            places[term] = begin
            if counts[term]:
                segments[filled[term], 0], segments[filled[term], 1] = (low // block) << 32 | counts[term], begin
                filled[term] += 1
            begin += counts[term]
        for at in range(first, last):
            packed[places[terms[at]]] = unordered[at]
            places[terms[at]] += 1
        for term in range(num_terms):
            if counts[term] > 1:
                _sort(packed[places[term] - counts[term] : places[term]])
    return segment_starts, segments, packed


@compiled
def _count(terms: Array, counts: Array) -> None:
    counts[:] = 0
    for term in terms:
        counts[term] += 1


@compiled
def _sort(segment: Array) -> None:
    """Longest first, then by place. They come by place."""
    keys = np.empty(len(segment), np.int64)
    for at in range(len(segment)):
        keys[at] = (LEVELS - np.int64(level_of(segment[at, 0], 0))) << 32 | at
    keys.sort()
    ordered = np.empty_like(segment)
    for at in range(len(segment)):
        ordered[at] = segment[keys[at] & 0xFFFFFFFF]
    segment[:] = ordered

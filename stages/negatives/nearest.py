"""The most similar vectors under the rule of hard negatives, exactly: bounds from a few numbers, then full products.

The first numbers of a vector are its parts along the main axes of the corpus, the last one is the length of all that is
left. By Cauchy and Schwarz the product of two such short vectors is never below the cosine of the whole ones, so only
pairs whose bound passes a list's worst entry are computed in full.

Q queries in groups (the captions of an image), N candidates, E width, H width of the short vectors.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pairloom.compiled import compiled, reordered
from stages import rows_done

Array = npt.NDArray[Any]

AXES = 128  # of the short vectors: more cost more for each pair, fewer let more pairs through
SLACK = np.float32(1e-4)  # more than float32 may take from a bound
QUERIES, CANDIDATES = 256, 2048  # multiplied at once: the products stay in the cache
RUN = 64  # candidates looked at together
LIFT = 2.0**112  # float32's bias of the exponent is 112 more than float16's


class Vectors(NamedTuple):
    """Vectors of captions, in the order that decides ties."""

    halves: Array  # uint16 (N, E): float16's bits, as stage `score` stored them
    scales: Array  # float32 (N,): by which each is multiplied to be of length 1, 0 for one of zeros
    short: Array  # float32 (N, H)


class Queries(NamedTuple):
    """What is looked for, in groups (the captions of an image, or one caption)."""

    vectors: Vectors  # of the queries
    images: Array  # int64 (Q,): the number that the candidates have of each one's image, or -1
    documents: Array  # int64 (Q,): that of its text, or -1
    groups: Array  # int64 (G + 1,): where each group starts, and the last ends
    kinds: Array  # bool (G,): whether only candidates to train on count
    least: Array  # float32 (G,): a lower similarity is of no interest


class Facts(NamedTuple):
    """What the rule knows of each candidate."""

    images: Array  # int32 (N,): near-duplicate images are one
    documents: Array  # int32 (N,): equal for equal texts
    trained: Array  # bool (N,)


class Rule(NamedTuple):
    floor: np.float32
    ceiling: np.float32
    top_k: int
    distinct: bool


class Lists(NamedTuple):
    """The best so far of each group, most similar first."""

    counts: Array  # int64 (G,)
    places: Array  # int64 (G, top_k)
    similarities: Array  # float32 (G, top_k)


def axes(vectors: Array, most: int = AXES) -> Array:
    """(E, min(E, most)) float32: the main axes of these unit vectors, orthonormal."""
    _, found = np.linalg.eigh(vectors.T.astype(np.float64) @ vectors.astype(np.float64))
    main: Array = found[:, ::-1][:, :most].astype(np.float32)
    return main


def shortened(unit: Array, main: Array) -> Array:
    """(N, H) float32: along the main axes, and the length of the rest."""
    parts = unit @ main
    rest = np.sqrt(
        np.maximum((unit.astype(np.float64) ** 2).sum(axis=1) - (parts.astype(np.float64) ** 2).sum(axis=1), 0)
    )
    short: Array = np.concatenate([parts, rest[:, None].astype(np.float32)], axis=1)
    return short


def search(vectors: Vectors, facts: Facts, queries: Queries, rule: Rule, parts: int = 1) -> Lists:
    """The best candidates of each group of queries.

    A candidate's similarity is the largest to any query of the group. Never one of the group's image, nor of a text of
    the group. Lists as stages/negatives/rule.py says. parts: in how many the queries are searched, for progress.
    """
    found = nothing_found(len(queries.kinds), rule)
    for start, end in spans(queries.groups, QUERIES):
        part = Lists(*(array[start:end] for array in found))
        own = some(queries, start, end)
        for first in range(0, len(vectors.short), CANDIDATES):
            products = own.vectors.short @ vectors.short[first : first + CANDIDATES].T
            _scan(products, first, vectors, facts, own, rule, part)
        rows_done.add(len(own.images) / parts)
    return found


def nothing_found(groups: int, rule: Rule) -> Lists:
    """An empty list for each group."""
    shape = groups, rule.top_k
    return Lists(np.zeros(groups, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.float32))


def spans(groups: Array, queries: int) -> list[tuple[int, int]]:
    """(first group, the one behind the last) of groups that have about so many queries together."""
    found, start = [], 0
    while start < len(groups) - 1:
        end = max(int(np.searchsorted(groups, groups[start] + queries, "right")) - 1, start + 1)
        found.append((start, end))
        start = end
    return found


def some(queries: Queries, start: int, end: int) -> Queries:
    """The groups from `start` to below `end`."""
    groups = queries.groups[start : end + 1]
    own = slice(groups[0], groups[-1])
    vectors = Vectors(*(array[own] for array in queries.vectors))
    scalars = queries.kinds[start:end], queries.least[start:end]
    return Queries(vectors, queries.images[own], queries.documents[own], groups - groups[0], *scalars)


def of_length_one(halves: Array) -> Array:
    """float64 (N, E): the vectors of these float16 bits, of length 1. One of zeros stays."""
    values = np.ascontiguousarray(halves).view(np.float16).astype(np.float64)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    unit: Array = np.divide(values, lengths, out=np.zeros_like(values), where=lengths > 0)
    return unit


@compiled
def _scan(
    products: Array, first: int, vectors: Vectors, facts: Facts, queries: Queries, rule: Rule, found: Lists
) -> None:
    scratch = np.empty(vectors.halves.shape[1], np.int32)
    own, groups = queries.vectors, queries.groups
    for group in range(len(groups) - 1):
        begin, end = groups[group], groups[group + 1]
        limit = limit_of(found, queries, group, rule) - SLACK
        whole = np.empty((end - begin, len(scratch)), np.float64)
        for query in range(begin, end):
            widened(own.halves[query], scratch)
            whole[query - begin] = scratch.view(np.float32).astype(np.float64) * (LIFT * own.scales[query])
        for start in range(0, products.shape[1], RUN):
            stop = min(start + RUN, products.shape[1])
            passes = False
            for query in range(begin, end):
                for column in range(start, stop):  # vectorised: mostly none passes
                    passes |= products[query, column] > limit
            for column in range(start, stop if passes else start):
                place, best = first + column, np.float32(-2)
                for query in range(begin, end):
                    if products[query, column] > limit and admitted(facts, place, queries, group):
                        best = max(best, cosine(vectors, place, whole[query - begin], scratch))
                if best > rule.floor and best < rule.ceiling:
                    offer(found, group, place, best, facts.documents, rule)
                    limit = limit_of(found, queries, group, rule) - SLACK


def as_float64(vectors: Vectors) -> Array:
    """float64 (N, E): the vectors, each of length 1, as `_scan` computes those of queries, to the bit."""
    whole: Array = np.ascontiguousarray(vectors.halves).view(np.float16).astype(np.float64)
    whole *= vectors.scales[:, None].astype(np.float64)
    return whole


@compiled
def widened(halves: Array, wide: Array) -> None:
    """float16's bits to those of float32 of 2^-112 times the value, int32: sign, exponent and fraction in place."""
    for number in range(len(halves)):
        bits = np.int32(halves[number])
        wide[number] = ((bits & 0x7FFF) << 13) | ((bits & 0x8000) << 16)


@reordered
def cosine(vectors: Vectors, place: int, whole: Array, scratch: Array) -> np.float32:
    """Of a vector and a whole one, float64 of length 1. Summed in float64, so that what is computed beside it is not

    seen in its float32. scratch: int32, as many numbers as a vector has.
    """
    widened(vectors.halves[place], scratch)
    wide, total = scratch.view(np.float32), 0.0
    for number in range(len(whole)):
        total += whole[number] * np.float64(wide[number])
    return np.float32(total * LIFT * vectors.scales[place])


@compiled
def limit_of(found: Lists, queries: Queries, group: int, rule: Rule) -> np.float32:
    """What a candidate must be above, but for SLACK."""
    if found.counts[group] < rule.top_k:
        return max(rule.floor, queries.least[group])
    return max(rule.floor, queries.least[group], found.similarities[group, rule.top_k - 1])


@compiled
def admitted(facts: Facts, place: int, queries: Queries, group: int) -> bool:
    begin, end = queries.groups[group], queries.groups[group + 1]
    if facts.images[place] == queries.images[begin] or (queries.kinds[group] and not facts.trained[place]):
        return False
    own_text = False
    for query in range(begin, end):
        own_text |= facts.documents[place] == queries.documents[query]
    return not own_text


@compiled
def offer(found: Lists, group: int, place: int, similarity: np.float32, documents: Array, rule: Rule) -> None:
    """Put a candidate into its group's list. Places come in ascending order, so that of equals the first stays."""
    places, similarities = found.places[group], found.similarities[group]
    size, at = found.counts[group], found.counts[group]
    if rule.distinct:
        for entry in range(size):
            if documents[places[entry]] == documents[place]:
                if similarities[entry] >= similarity:
                    return
                at = entry  # the same text, less similar: it leaves its place
    if at == size:
        if size == rule.top_k:
            if similarities[size - 1] >= similarity:
                return
            at = size - 1
        else:
            found.counts[group] += 1
    while at > 0 and similarities[at - 1] < similarity:
        places[at], similarities[at] = places[at - 1], similarities[at - 1]
        at -= 1
    places[at], similarities[at] = place, similarity

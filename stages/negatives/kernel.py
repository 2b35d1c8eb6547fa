"""The compiled search: for each query the best documents between floor and ceiling, exactly.

Queries and documents are sparse vectors whose terms come rarest first. Say a query and a document share terms, and t is
the rarest of them. By the inequality of Cauchy and Schwarz their similarity is at most

    length of the query from t on × length of the document from t on.

Postings lie longest first, so once this product is below what a similarity must reach (the worst of the `wanted` best
so far), the rest of the segment is not read, and once it is below it for the longest document, neither are the query's
other terms. That is why frequent words cost little: from them on, vectors are short. A posting that is read has a
second bound: what t itself adds, and what the later terms can add of which the document's signature says that it may
have them. A document that passes is computed from its own vector.

Nothing depends on blocks or on the order of the work: a similarity is the sum of float64 products, rarest term first,
rounded to float32, however its document was found, and a bound leaves out only what can neither win nor tie.

Queries come in groups with one heap: the captions of an image, or one text. What counts is the largest similarity to a
query of the group. So a document is offered by the query it is most similar to (the first of several), and by none if
one of them finds it at the ceiling or above. The others' similarities are computed for it from both vectors.

Blocks of documents outside, queries inside: a block's postings and vectors stay in the processor's cache. Candidates
wait until there are some, so that the memory is asked for all of them at once. A query computes each document once,
however many terms they share.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pairloom.compiled import compiled
from stages.negatives.heap import offer, sort
from stages.negatives.postings import Postings, bit_of, level_of

Array = npt.NDArray[Any]

MARGIN = (
    1e-7  # bounds are rounded sums. This share of the largest similarity there can be is far more than they are off
)
WAITING = 16  # candidates
NEVER = 1 << 40  # no block has this number
DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)  # times a power of two, its top six bits are another number for each power


class Queries(NamedTuple):
    """What is looked for. Pairs as in Postings. A document of more than one image, or none, is never barred."""

    starts: Array  # int64 (Q + 1,): query q has the pairs starts[q] … starts[q + 1] - 1
    terms: Array  # int32, ascending within a query
    weights: Array  # float64
    own: Array  # int64 (Q,): the document of the same text, or -1
    groups: Array  # int64 (G + 1,): group g has the queries groups[g] … groups[g + 1] - 1
    barred: Array  # int64 (G,): documents whose captions are all of this image are left out, -1: none
    kinds: Array  # int64 (G,): which row of Documents.heads the group may have
    least: Array  # float32 (G,): a lower similarity is of no interest
    rooms: Array  # int64 (G + 1,): group g wants the rooms[g + 1] - rooms[g] best, at least one


class Documents(NamedTuple):
    """What the search must know of documents beside their vectors."""

    sole: Array  # int32 (D,): the image that all captions of a document are of, or -1 if there are several
    heads: Array  # int32 (2, D): the first of a document's captions, and the first of those to train on or -1


class Limits(NamedTuple):
    """The rule's numbers."""

    floor: np.float32
    ceiling: np.float32


class Heaps(NamedTuple):
    """What was found: the first sizes[g] of group g's rooms. A document is named by its head."""

    sizes: Array  # int64 (G,)
    heads: Array  # int64
    similarities: Array  # float32


class Prepared(NamedTuple):
    """What the search keeps of each pair of the queries."""

    lengths: Array  # float64: length of the query from this term on, every weight times its term's scale
    parts: Array  # float64: weight times what is usual for the term
    slots: Array  # int64: of the term's bit
    cursors: Array  # int64: the term's next segment
    blocks: Array  # int64: the block it is in, or NEVER


class Scratch(NamedTuple):
    """Room for one query in one block. All empty in between, but for the candidates."""

    sums: Array  # float64 (64,): by slot, parts of the terms that follow
    terms: Array  # int32 (a power of two,): hash table of the query's terms, -1 if free
    weights: Array  # float64, beside them
    documents: Array  # int64 (WAITING,): candidates
    begins: Array  # int64 (WAITING,): where their vectors start
    met: Array  # int64, by a document's place in its block: the query that has met it there, or -1


@compiled
def search(postings: Postings, documents: Documents, queries: Queries, scales: Array, limits: Limits) -> Heaps:
    """The best documents of each group with floor < similarity < ceiling: higher similarity first, then lower head.

    scales: float64 (2, V), scale and usual as the postings were made with.
    """
    num_groups = len(queries.least)
    sizes, rooms = np.zeros(num_groups, np.int64), queries.rooms[num_groups]
    heaps = Heaps(sizes, np.zeros(rooms, np.int64), np.zeros(rooms, np.float32))
    block = postings.block[0]
    prepared, scratch = _prepare(postings, queries, scales), _scratch(queries, block)
    for number in range((len(postings.starts) + block - 2) // block):
        scratch.met[:] = -1
        for group in range(num_groups):
            for query in range(queries.groups[group], queries.groups[group + 1]):
                _search_block(postings, documents, queries, (group, query), prepared, scratch, heaps, limits, number)
    for group in range(num_groups):
        own = slice(queries.rooms[group], queries.rooms[group + 1])
        sort(heaps.heads[own], heaps.similarities[own], sizes[group])
    return heaps


@compiled
def _prepare(postings: Postings, queries: Queries, scales: Array) -> Prepared:
    pairs = len(queries.terms)
    lengths, parts = np.empty(pairs, np.float64), np.empty(pairs, np.float64)
    slots, cursors, blocks = np.empty(pairs, np.int64), np.empty(pairs, np.int64), np.empty(pairs, np.int64)
    for query in range(len(queries.own)):
        square = 0.0
        for at in range(queries.starts[query + 1] - 1, queries.starts[query] - 1, -1):
            term, weight = queries.terms[at], abs(queries.weights[at])
            square += (weight * scales[0, term]) ** 2
            lengths[at], parts[at] = np.sqrt(square), weight * scales[1, term]
            slots[at] = _slot(np.uint64(1) << bit_of(term))
            cursors[at] = postings.segment_starts[term]
            blocks[at] = _block_at(postings, cursors[at], term)
    return Prepared(lengths, parts, slots, cursors, blocks)


@compiled
def _scratch(queries: Queries, block: int) -> Scratch:
    longest = 1024
    for query in range(len(queries.own)):
        longest = max(longest, queries.starts[query + 1] - queries.starts[query])
    size = 4
    while size < 4 * longest:
        size *= 2
    waiting = np.zeros(WAITING, np.int64), np.zeros(WAITING, np.int64)
    return Scratch(np.zeros(64), np.full(size, -1, np.int32), np.zeros(size), *waiting, np.full(block, -1, np.int64))


@compiled
def _slot(bit: np.uint64) -> int:
    return int((bit * DE_BRUIJN) >> np.uint64(58))


@compiled
def _block_at(postings: Postings, cursor: int, term: int) -> int:
    return postings.segments[cursor, 0] >> 32 if cursor < postings.segment_starts[term + 1] else NEVER


@compiled
def _goal(queries: Queries, group: int, heaps: Heaps, floor: np.float32) -> float:
    """What a similarity must reach to be of interest now."""
    goal, first = max(floor, queries.least[group]), queries.rooms[group]
    if heaps.sizes[group] == queries.rooms[group + 1] - first:
        goal = max(goal, heaps.similarities[first])
    return float(goal)


@compiled
def _search_block(
    postings: Postings,
    documents: Documents,
    queries: Queries,
    asking: tuple[int, int],
    prepared: Prepared,
    scratch: Scratch,
    heaps: Heaps,
    limits: Limits,
    number: int,
) -> None:
    """Offer what the query finds among the documents of one block to its group's heap. asking: group, query."""
    group, query = asking
    first, last = queries.starts[query], queries.starts[query + 1]
    if first == last:
        return
    longest = postings.levels[0, -1]
    margin = MARGIN * prepared.lengths[first] * longest
    goal = _goal(queries, group, heaps, limits.floor) * (1 - MARGIN) - margin
    mask, waiting = np.uint64(0), 0
    for at in range(first, last):
        if prepared.lengths[at] * longest < goal or prepared.lengths[at] == 0:
            break
        if mask:
            scratch.sums[prepared.slots[at]] -= prepared.parts[at]
        if prepared.blocks[at] != number:
            continue
        begin, end = _next_segment(postings, queries, prepared, at)
        enough = goal / prepared.lengths[at]
        if postings.levels[0, level_of(postings.packed[begin, 0], 0)] < enough:
            continue
        if not mask:
            mask = _fill(queries, at, first, last, prepared, scratch)
        weight = abs(queries.weights[at])
        for place in range(begin, end):
            posting = postings.packed[place, 0]
            if postings.levels[0, level_of(posting, 0)] < enough:
                break
            inside = np.int64(posting & np.uint64(0xFFFF))
            if scratch.met[inside] == query:  # what a bound left out at a rarer term cannot win by what is left
                continue
            scratch.met[inside] = query
            if _bound(postings, place, mask, weight, scratch) < goal:
                continue
            document = number * postings.block[0] + inside
            scratch.documents[waiting] = document
            scratch.begins[waiting] = postings.starts[document]
            waiting += 1
            if waiting == WAITING:
                _offer_waiting(postings, documents, queries, asking, scratch, waiting, heaps, limits)
                goal = _goal(queries, group, heaps, limits.floor) * (1 - MARGIN) - margin
                enough, waiting = goal / prepared.lengths[at], 0
    if mask:
        _offer_waiting(postings, documents, queries, asking, scratch, waiting, heaps, limits)
        _clear(queries, first, last, scratch)


@compiled
def _next_segment(postings: Postings, queries: Queries, prepared: Prepared, at: int) -> tuple[int, int]:
    """Where the postings of the term of a query's pair begin and end in this block. The next time in the next one."""
    cursor = prepared.cursors[at]
    begin = postings.segments[cursor, 1]
    prepared.cursors[at] = cursor + 1
    prepared.blocks[at] = _block_at(postings, cursor + 1, queries.terms[at])
    return begin, begin + (postings.segments[cursor, 0] & 0xFFFFFFFF)


@compiled
def _bound(postings: Postings, place: int, mask: np.uint64, weight: float, scratch: Scratch) -> float:
    """What the document of a posting may reach: by the term itself, and by the later ones of its signature."""
    posting, later = postings.packed[place, 0], 0.0
    shared = postings.packed[place, 1] & mask
    while shared:
        bit = shared & (~shared + np.uint64(1))
        shared ^= bit
        later += scratch.sums[_slot(bit)]
    own = weight * postings.levels[1, level_of(posting, 1)]
    return float(own + later * postings.levels[2, level_of(posting, 2)])


@compiled
def _fill(queries: Queries, at: int, first: int, last: int, prepared: Prepared, scratch: Scratch) -> np.uint64:
    """Note the query's terms for products, and those after `at` for bounds. Returns a mask of all their bits, not 0."""
    mask, size = np.uint64(0), len(scratch.terms)
    for pair in range(first, last):
        mask |= np.uint64(1) << bit_of(queries.terms[pair])
        if pair > at:
            scratch.sums[prepared.slots[pair]] += prepared.parts[pair]
        slot = queries.terms[pair] & (size - 1)
        while scratch.terms[slot] >= 0:
            slot = (slot + 1) & (size - 1)
        scratch.terms[slot], scratch.weights[slot] = queries.terms[pair], queries.weights[pair]
    return mask


@compiled
def _clear(queries: Queries, first: int, last: int, scratch: Scratch) -> None:
    scratch.sums[:] = 0
    size = len(scratch.terms)
    for pair in range(first, last):
        slot = queries.terms[pair] & (size - 1)
        while scratch.terms[slot] >= 0:
            scratch.terms[slot] = -1
            slot = (slot + 1) & (size - 1)


@compiled
def _offer_waiting(
    postings: Postings,
    documents: Documents,
    queries: Queries,
    asking: tuple[int, int],
    scratch: Scratch,
    waiting: int,
    heaps: Heaps,
    limits: Limits,
) -> None:
    """Compute the candidates' similarities and put those that the rule admits into the group's heap."""
    group = asking[0]
    own = slice(queries.rooms[group], queries.rooms[group + 1])
    heads, similarities = heaps.heads[own], heaps.similarities[own]
    for candidate in range(waiting):
        document = scratch.documents[candidate]
        similarity = np.float32(_product(postings, scratch, scratch.begins[candidate], postings.starts[document + 1]))
        if not limits.floor < similarity < limits.ceiling or similarity < _goal(queries, group, heaps, limits.floor):
            continue
        head = documents.heads[queries.kinds[group], document]
        barred = documents.sole[document] >= 0 and documents.sole[document] == queries.barred[group]
        if head < 0 or barred or _is_own(queries, group, document):
            continue
        if not _is_of_another(postings, document, queries, asking, similarity, limits.ceiling):
            heaps.sizes[group] = offer(heads, similarities, heaps.sizes[group], similarity, head)


@compiled
def _is_own(queries: Queries, group: int, document: int) -> bool:
    """Whether a query of the group has the document's text."""
    own = False
    for query in range(queries.groups[group], queries.groups[group + 1]):
        own = own or queries.own[query] == document
    return own


@compiled
def _is_of_another(
    postings: Postings,
    document: int,
    queries: Queries,
    asking: tuple[int, int],
    similarity: np.float32,
    ceiling: np.float32,
) -> bool:
    """Whether another query of the group offers the document, or is too similar to it. asking: group, query."""
    group, query = asking
    for other in range(queries.groups[group], queries.groups[group + 1]):
        if other == query:
            continue
        value = np.float32(_joined(postings, document, queries, other))
        if value >= ceiling or value > similarity or (value == similarity and other < query):
            return True
    return False


@compiled
def _joined(postings: Postings, document: int, queries: Queries, query: int) -> float:
    """As _product, bit for bit, from both lists of pairs."""
    here, end = postings.starts[document], postings.starts[document + 1]
    there, stop = queries.starts[query], queries.starts[query + 1]
    total = 0.0
    while here < end and there < stop:
        if postings.terms[here] == queries.terms[there]:
            total += queries.weights[there] * postings.weights[here]
            here, there = here + 1, there + 1
        elif postings.terms[here] < queries.terms[there]:
            here += 1
        else:
            there += 1
    return total


@compiled
def _product(postings: Postings, scratch: Scratch, begin: int, end: int) -> float:
    """Σ query weight × document weight over the document's pairs begin … end - 1."""
    total, mask = 0.0, len(scratch.terms) - 1
    for pair in range(begin, end):
        term = postings.terms[pair]
        slot = term & mask
        while scratch.terms[slot] != term and scratch.terms[slot] >= 0:
            slot = (slot + 1) & mask
        if scratch.terms[slot] == term:
            total += scratch.weights[slot] * postings.weights[pair]
    return total

"""The search of nearest.py with its products on a GPU, which gives the same lists to the bit.

The GPU multiplies the short vectors and hands over the pairs whose bound passes. Cosines, order and ties are those of
nearest.py, computed by the CPU, so a device that rounds its products otherwise changes nothing.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from pairloom.compiled import compiled
from pairloom.table import Array
from stages import rows_done
from stages.negatives.nearest import (
    CANDIDATES,
    SLACK,
    Facts,
    Lists,
    Queries,
    Rule,
    Vectors,
    admitted,
    as_float64,
    cosine,
    limit_of,
    nothing_found,
    offer,
    some,
    spans,
)

if TYPE_CHECKING:
    from torch import Tensor

QUERIES = 4096  # multiplied at once
MOST_CANDIDATES = 32_768  # with as many queries 512 MB of products
MOST_PAIRS = 1 << 20  # more that pass, and the next block is not larger


def device_of(name: str) -> str:
    """The torch device for setting `negatives.device`: auto is cuda where there is one, else cpu.

    Raises ConfigError for a device that is not there.
    """
    if name == "cpu" or (name == "auto" and find_spec("torch") is None):
        return "cpu"
    from systems.encoders.placing import Placing

    return Placing.of(name, "float32", "negatives").device


def search(device: str, vectors: Vectors, facts: Facts, queries: Queries, rule: Rule, parts: int = 1) -> Lists:
    """As nearest.search, with the products on this torch device.

    It holds the short vectors, 516 bytes a candidate, and up to 1 GB beside them.
    """
    found = nothing_found(len(queries.kinds), rule)
    candidates_NH = _placed(vectors.short, device)
    for start, end in spans(queries.groups, QUERIES):
        part = Lists(*(array[start:end] for array in found))
        own = some(queries, start, end)
        _search_span(candidates_NH, vectors, facts, own, rule, part)
        rows_done.add(len(own.images) / parts)
    return found


def _placed(short_NH: Array, device: str) -> Tensor:
    """The vectors on the device, block by block: they may be a mapped file, which may be larger than memory."""
    import torch

    there_NH = torch.empty(short_NH.shape, dtype=torch.float32, device=device)
    for first in range(0, len(short_NH), MOST_CANDIDATES):
        there_NH[first : first + MOST_CANDIDATES] = torch.tensor(short_NH[first : first + MOST_CANDIDATES])
    return there_NH


def _search_span(
    candidates_NH: Tensor, vectors: Vectors, facts: Facts, queries: Queries, rule: Rule, found: Lists
) -> None:
    import torch

    asked_QH = torch.tensor(queries.vectors.short, device=candidates_NH.device)
    whole = as_float64(queries.vectors)
    groups = np.repeat(np.arange(len(queries.kinds)), np.diff(queries.groups))
    first, width = 0, CANDIDATES
    while first < len(candidates_NH):
        least_Q = torch.from_numpy(_limits(found, queries, rule)).to(candidates_NH.device)
        asked, places, products = _passing(asked_QH, candidates_NH[first : first + width], least_Q)
        places += first
        order = np.lexsort((asked, places, groups[asked]))
        pairs = groups[asked][order], places[order], asked[order], products[order]
        _take_pairs(*pairs, whole, vectors, facts, queries, rule, found)
        first += width
        if len(order) < MOST_PAIRS:
            width = min(2 * width, MOST_CANDIDATES)  # lists are full by now, and fewer pass


def _passing(asked_QH: Tensor, candidates_CH: Tensor, least_Q: Tensor) -> tuple[Array, Array, Array]:
    """(query, candidate, product) of the pairs whose product is above the query's limit: int64, int64, float32."""
    products_QC = asked_QH @ candidates_CH.T
    pairs_P2 = (products_QC > least_Q[:, None]).nonzero()
    values_P = products_QC[pairs_P2[:, 0], pairs_P2[:, 1]]
    pairs = pairs_P2.cpu().numpy()
    return np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1]), values_P.cpu().numpy()


@compiled
def _limits(found: Lists, queries: Queries, rule: Rule) -> Array:
    limits = np.empty(len(queries.images), np.float32)
    for group in range(len(queries.kinds)):
        limits[queries.groups[group] : queries.groups[group + 1]] = limit_of(found, queries, group, rule) - SLACK
    return limits


@compiled
def _take_pairs(
    groups: Array, places: Array, asked: Array, products: Array, whole: Array, vectors: Vectors, facts: Facts,
    queries: Queries, rule: Rule, found: Lists,
) -> None:  # fmt: skip
    """Offer the candidates of these pairs, which are ordered by group, candidate, and query."""
    scratch = np.empty(vectors.halves.shape[1], np.int32)
    at = 0
    while at < len(groups):
        group, place = groups[at], places[at]
        limit, best = limit_of(found, queries, group, rule) - SLACK, np.float32(-2)
        while at < len(groups) and groups[at] == group and places[at] == place:
            if products[at] > limit and admitted(facts, place, queries, group):
                best = max(best, cosine(vectors, place, whole[asked[at]], scratch))
            at += 1
        if best > rule.floor and best < rule.ceiling:
            offer(found, group, place, best, facts.documents, rule)

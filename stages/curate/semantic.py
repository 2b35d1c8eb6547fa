"""Images that mean the same, by SemDeDup's rule (arXiv:2303.09540, section 3): k-means, then cosines within clusters.

Of each cluster the images are ordered from the farthest from its centre to the nearest, as in the authors' code, which
so keeps the unusual ones. An image goes if it is more similar than the limit to any before it, whether that one stays
or not. Within a cluster no pair is missed. Images of different clusters are not compared: that is the rule, too.

N images, E width of their vectors, K clusters, P points that the clusters are fitted to.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

Array = npt.NDArray[Any]
T = TypeVar("T")

ROUNDS = 10  # of k-means
A_CLUSTER = 256  # points that each cluster is fitted to, at most, as faiss does
BLOCK = 2048  # rows multiplied at once
NUMBERS = 1 << 24  # of a block of products, so that it takes 64 MB


@dataclass(frozen=True)
class Alike:
    """Of each image the earlier one of its cluster that it is most similar to, if that is beyond the limit."""

    places: Array  # int64 (N,): -1 if it stays
    cosines: Array  # float32 (N,)


def semantic_duplicates(vectors_NE: Array, limit: float, clusters: int | None = None, seed: int = 0) -> Alike:
    """vectors: float16 or float32, in memory or mapped. They need not be of length 1. Raises nothing for N = 0.

    clusters: null is the square root of N, at which both steps cost about the same. Threads never change the result.
    """
    count = len(vectors_NE)
    found = Alike(np.full(count, -1, np.int64), np.zeros(count, np.float32))
    if not count:
        return found
    centres_KE = centres(vectors_NE, clusters or max(1, round(count**0.5)), seed)
    cluster_N, cosine_N = assigned(vectors_NE, centres_KE)
    order_N = np.lexsort((np.arange(count), cosine_N, cluster_N))
    cuts = np.flatnonzero(np.diff(cluster_N[order_N], prepend=-1, append=-1))
    members = [order_N[start:end] for start, end in pairwise(cuts)]

    def compare(own: Array) -> None:
        found.places[own], found.cosines[own] = _within(vectors_NE, own, np.float32(limit))

    for _ in in_threads(compare, members, "images that mean the same"):
        pass
    return found


def _within(vectors_NE: Array, own: Array, limit: np.float32) -> tuple[Array, Array]:
    """(place of the most similar earlier one or -1, its cosine) of the images of one cluster, in their order."""
    unit_ME = unit(vectors_NE[own])
    places, cosines = np.full(len(own), -1, np.int64), np.zeros(len(own), np.float32)
    step = max(1, min(BLOCK, NUMBERS // len(own)))
    for start in range(0, len(own), step):
        end = min(start + step, len(own))
        products = unit_ME[start:end] @ unit_ME[:end].T
        products[np.arange(start, end)[:, None] <= np.arange(end)[None, :]] = -2.0  # itself and those after it
        best = products.argmax(axis=1)
        value = products[np.arange(end - start), best]
        beyond = value > limit
        places[start:end][beyond] = own[best[beyond]]
        cosines[start:end][beyond] = value[beyond]
    return places, cosines


def centres(vectors_NE: Array, clusters: int, seed: int) -> Array:
    """(K, E) float32, each of length 1: spherical k-means from drawn images, fitted to a sample of them."""
    rng = np.random.default_rng(seed)
    clusters = min(clusters, len(vectors_NE))
    drawn = np.sort(rng.choice(len(vectors_NE), min(len(vectors_NE), clusters * A_CLUSTER), replace=False))
    points_PE = unit(vectors_NE[drawn])
    centres_KE = points_PE[np.sort(rng.choice(len(points_PE), clusters, replace=False))].copy()
    for _ in tqdm(range(ROUNDS), desc="clusters", disable=None, leave=False):
        cluster_P, _ = _nearest(points_PE, centres_KE, lambda block_ME: block_ME)
        sums_KE = np.zeros_like(centres_KE)
        order_P = np.argsort(cluster_P, kind="stable")
        starts = np.flatnonzero(np.diff(cluster_P[order_P], prepend=-1))
        sums_KE[cluster_P[order_P][starts]] = np.add.reduceat(points_PE[order_P], starts, axis=0)
        filled_K = np.linalg.norm(sums_KE, axis=1) > 0  # a centre without points stays where it was
        centres_KE[filled_K] = unit(sums_KE[filled_K])
    return centres_KE


def assigned(vectors_NE: Array, centres_KE: Array) -> tuple[Array, Array]:
    """(nearest centre int32 (N,), cosine to it float32 (N,))."""
    return _nearest(vectors_NE, centres_KE, unit)


def _nearest(vectors_NE: Array, centres_KE: Array, read: Callable[[Array], Array]) -> tuple[Array, Array]:
    """read: what makes a block of them float32 and of length 1."""
    step = max(1, min(BLOCK, NUMBERS // len(centres_KE)))

    def nearest(start: int) -> tuple[Array, Array]:
        products = read(vectors_NE[start : start + step]) @ centres_KE.T
        best = products.argmax(axis=1)
        return best.astype(np.int32), products[np.arange(len(best)), best]

    parts = list(in_threads(nearest, range(0, len(vectors_NE), step), "nearest centres"))
    return np.concatenate([best for best, _ in parts]), np.concatenate([cosine for _, cosine in parts])


def unit(vectors_NE: Array) -> Array:
    """In float32, each of length 1. One of zeros stays."""
    vectors = vectors_NE.astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit_NE: Array = vectors / np.where(lengths > 0, lengths, 1)
    return unit_NE


def in_threads(step: Callable[[Any], T], items: Iterable[Any], what: str) -> Iterator[T]:
    """step(item) of each, in order, in a thread a core: numpy multiplies without holding the interpreter."""
    listed = list(items)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        yield from tqdm(pool.map(step, listed), total=len(listed), desc=what, disable=None, leave=False, delay=2)

"""Hard negatives and near duplicates by vectors, against faiss in the same run, and what 10 million rows would take.

OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python -m benchmarks.semantic [--rows 200000] [--queries 512] [--width 512]
    [--device cuda]

Vectors are drawn: groups of groups of texts, with a spectrum that falls as 1 / axis, as that of CLIP's texts does. The
share of pairs that are computed in full depends on it, so your own vectors may take more or less.
negatives: for each query the 30 most similar below a ceiling of 0.9 and above a floor of 0.3. The peer is
faiss.IndexFlatIP, which computes all pairs and has no ceiling: it is asked for 30, and its lists must be ours without
limits. duplicates: SemDeDup's rule with as many clusters as the square root of the rows. The peer is faiss.Kmeans with
as many rounds and points, then numpy within the clusters.
Times are of the processor, on one thread, so that a busy machine does not count. Two cores take half of it, since
queries and clusters are independent. With --device the products are that device's, and the time is that of the clock.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import faiss
import numpy as np

from pairloom.table import Array
from stages.curate import semantic
from stages.negatives import nearest_on_gpu
from stages.negatives.nearest import Facts, Queries, Rule, Vectors, axes, search, shortened

TARGET, CORES, TOP = 10_000_000, 2, 30


def drawn(rows: int, width: int, seed: int = 0) -> Array:
    """(rows, width) float16, each of about length 1: 1 group for 2,000 rows, in each 1 subgroup for 20."""
    rng = np.random.default_rng(seed)
    spectrum = 1 / np.sqrt(np.arange(1, width + 1))
    parts = [(max(rows // 2000, 1), 0.5), (max(rows // 20, 1), 0.4), (rows, 0.35)]
    total = np.zeros((rows, width), np.float32)
    for count, weight in parts:
        centres = rng.standard_normal((count, width), np.float32) * spectrum
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        total += weight * (centres if count == rows else centres[rng.integers(count, size=rows)])
    unit: Array = (total / np.linalg.norm(total, axis=1, keepdims=True)).astype(np.float16)
    return unit


def took(step: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    found = step()
    return time.process_time() - start, found


def negatives(vectors: Array, queries: int, device: str | None) -> None:
    unit = semantic.unit(vectors)
    count = len(unit)
    main = axes(unit[:: max(count // 100_000, 1)])
    scales = (1 / np.linalg.norm(vectors.astype(np.float64), axis=1)).astype(np.float32)
    ours = Vectors(vectors.view(np.uint16), scales, shortened(unit, main))
    facts = Facts(np.arange(count, dtype=np.int32), np.arange(count, dtype=np.int32), np.ones(count, np.bool_))
    asked = np.sort(np.random.default_rng(1).choice(count, queries, replace=False))
    wanted = _queries(ours, asked)
    free = Rule(np.float32(-2), np.float32(2), TOP, True)
    limited = Rule(np.float32(0.3), np.float32(0.9), TOP, True)
    search(ours, facts, _queries(ours, asked[:1]), limited)  # which compiles it
    with_limits, _ = took(lambda: search(ours, facts, wanted, limited))
    without, lists = took(lambda: search(ours, facts, wanted, free))
    if device is not None:
        _on_device(device, ours, facts, wanted, limited)
    index = faiss.IndexFlatIP(unit.shape[1])
    index.add(unit)
    theirs, (similarities, places) = took(lambda: index.search(unit[asked], TOP + 1))
    same = [
        np.allclose(lists.similarities[n], similarities[n][places[n] != asked[n]][:TOP], atol=1e-5)
        for n in range(queries)
    ]
    assert all(same), "the lists differ from faiss's"
    for name, seconds in (("with limits", with_limits), ("without", without), ("faiss, without", theirs)):
        hours = seconds * (TARGET / queries) * (TARGET / count) / CORES / 3600
        print(f"negatives, {name}: {seconds:.2f} s, {TARGET:,} rows on {CORES} cores {hours:.0f} h", flush=True)
    print(f"negatives: faiss takes {theirs / with_limits:.1f} times as long; all {queries} lists are the same")


def _on_device(device: str, vectors: Vectors, facts: Facts, wanted: Queries, rule: Rule) -> None:
    nearest_on_gpu.search(device, vectors, facts, wanted, rule)  # compiles, and starts the device
    start = time.monotonic()
    found = nearest_on_gpu.search(device, vectors, facts, wanted, rule)
    seconds = time.monotonic() - start
    expected = search(vectors, facts, wanted, rule)
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(found, expected, strict=True))
    queries, count = len(wanted.images), len(vectors.short)
    hours = seconds * (TARGET / queries) * (TARGET / count) / 3600
    print(f"negatives, products on {device}: {seconds:.2f} s, {TARGET:,} rows {hours:.1f} h; the lists are the same")


def _queries(vectors: Vectors, asked: Array) -> Queries:
    own, each, nothing = Vectors(*(array[asked] for array in vectors)), len(asked), np.full(len(asked), -1, np.float32)
    return Queries(own, asked, asked, np.arange(each + 1), np.zeros(each, np.bool_), nothing)


def duplicates(vectors: Array) -> None:
    count, clusters = len(vectors), max(1, round(len(vectors) ** 0.5))
    unit = semantic.unit(vectors)
    fit, centres = took(lambda: semantic.centres(vectors, clusters, 0))
    whole, _ = took(lambda: semantic.semantic_duplicates(vectors, 0.95, clusters))
    kmeans = faiss.Kmeans(unit.shape[1], clusters, niter=semantic.ROUNDS, spherical=True, seed=0, verbose=False)
    their_fit, _ = took(lambda: kmeans.train(unit))
    their_rest, _ = took(lambda: _within(unit, kmeans.index.search(unit, 1)[1][:, 0]))
    tight = [
        float(semantic.assigned(unit, semantic.unit(np.asarray(each)))[1].mean())
        for each in (centres, kmeans.centroids)
    ]
    growth = TARGET / count
    for name, first, rest in (("ours", fit, whole - fit), ("faiss and numpy", their_fit, their_rest)):
        hours = (first * growth + rest * growth**1.5) / CORES / 3600
        print(f"duplicates, {name}: {first:.1f} s for clusters, {rest:.1f} s for the rest; {TARGET:,} rows on {CORES} "
              f"cores {hours:.1f} h", flush=True)  # fmt: skip
    print(f"duplicates: faiss takes {(their_fit + their_rest) / whole:.2f} times as long; mean cosine to the centre "
          f"{tight[0]:.4f}, faiss's {tight[1]:.4f}")  # fmt: skip


def _within(unit: Array, cluster: Array) -> int:
    """How many go: the same comparison, each cluster's products at once."""
    order, gone = np.argsort(cluster, kind="stable"), 0
    cuts = np.flatnonzero(np.diff(cluster[order], prepend=-1, append=-1))
    for start, end in pairwise(cuts):
        own = unit[order[start:end]]
        gone += int((np.triu(own @ own.T, 1).max(axis=0) > 0.95).sum())
    return gone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=512)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--device", help="a torch device on which products are made, too, such as cuda")
    arguments = parser.parse_args()
    faiss.omp_set_num_threads(1)
    vectors = drawn(arguments.rows, arguments.width)
    negatives(vectors, arguments.queries, arguments.device)
    duplicates(vectors[: arguments.rows // 2])


if __name__ == "__main__":
    main()

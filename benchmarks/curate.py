"""Near-duplicate search over synthetic hashes: time, memory and cost curve, against brute force with numpy.

    python -m benchmarks.curate --hashes 10000000

Hashes are random but for a tenth, which are copies with up to 4 bits turned. The peer compares all pairs of the first
--peer hashes and must find the same images; for other sizes its time is scaled by the square, and the line says so.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import numpy.typing as npt

from stages.curate.duplicates import near_kept

DISTANCE = 4


def hashes(count: int, seed: int = 0) -> npt.NDArray[np.uint64]:
    rng = np.random.default_rng(seed)
    found = rng.integers(0, 2**64, count, dtype=np.uint64)
    copies = rng.random(count) < 0.1
    copies[0] = False
    turned = np.bitwise_or.reduce(np.uint64(1) << rng.integers(0, 64, (DISTANCE, count), dtype=np.uint64), axis=0)
    sources = (rng.random(count) * np.arange(count)).astype(np.int64)
    found[copies] = found[sources[copies]] ^ turned[copies]
    return found


def brute_force(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """As near_kept says: the earliest kept hash within the distance, or -1."""
    kept: list[int] = []
    result = np.full(len(values), -1, np.int64)
    kept_values = np.empty(len(values), np.uint64)
    for here, value in enumerate(values):
        near = np.flatnonzero(np.bitwise_count(kept_values[: len(kept)] ^ value) <= DISTANCE)
        if len(near):
            result[here] = kept[near[0]]
        else:
            kept_values[len(kept)] = value
            kept.append(here)
    return result


def timed(values: npt.NDArray[np.uint64]) -> tuple[float, npt.NDArray[np.int64]]:
    start = time.perf_counter()
    found = near_kept(values, DISTANCE)
    return time.perf_counter() - start, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hashes", type=int, default=1_000_000)
    parser.add_argument("--peer", type=int, default=20_000, help="hashes that brute force is run on")
    arguments = parser.parse_args()
    near_kept(hashes(1000), DISTANCE)  # compiled now
    part = hashes(arguments.peer)
    start = time.perf_counter()
    wanted = brute_force(part)
    peer_s = time.perf_counter() - start
    assert np.array_equal(wanted, near_kept(part, DISTANCE)), "brute force found others"
    print(f"numpy {np.__version__}, distance {DISTANCE}; brute force on {arguments.peer:,} hashes: {peer_s:.2f} s")
    for size in sorted({arguments.peer, *(arguments.hashes // 10**power for power in (2, 1, 0))}):
        seconds, found = timed(hashes(size))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        ratio = peer_s * (size / arguments.peer) ** 2 / seconds
        how = "measured" if size == arguments.peer else f"scaled from {arguments.peer:,}"
        print(
            f"{size:12,} hashes: {seconds:8.2f} s, {(found >= 0).sum():,} near duplicates, peak {peak:.2f} GiB; "
            f"brute force / ours: {ratio:.0f} ({how})",
            flush=True,
        )


if __name__ == "__main__":
    main()

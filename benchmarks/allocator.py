"""Regions in a worker's thread with pairloom's memory limits (pipeline/memory.py), against Dask's for its workers.

python -m benchmarks.allocator [--pictures 32] [--rounds 3]

Each line is the median of processes that take turns. The same photographs and seeded scenes through the starter.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from functools import partial

DASKS = {"MALLOC_TRIM_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}  # distributed.nanny.pre-spawn-environ


def extracting(ours: bool, count: int) -> dict[str, float]:
    """Seconds, and seconds in the kernel, of this many pictures after the first few."""
    from benchmarks.regions_networks import pictures
    from pipeline.memory import keep_freed_memory
    from stages import regions
    from stages.regions.extract import extract

    if ours:
        keep_freed_memory()
    engine = regions.setup(regions.Config(), None).engine  # type: ignore[arg-type]  # the folder is for other stages
    reads = [partial(bytes, body) for body in pictures(count, 0)]
    extract(reads[:4], engine)
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_stime
    extract(reads, engine)
    spent = resource.getrusage(resource.RUSAGE_SELF).ru_stime - before
    return {"seconds": time.perf_counter() - began, "system": spent}


def measure(ours: bool, count: int) -> None:
    """Print what it took in a thread, as Dask runs tasks."""
    thread = threading.Thread(target=lambda: print(json.dumps(extracting(ours, count))))
    thread.start()
    thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", choices=("dask", "ours"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure(options.one == "ours", options.pictures)
        return
    found: dict[str, list[dict[str, float]]] = {"dask": [], "ours": []}
    for turn in range(options.rounds):
        for name, runs in found.items():
            command = [sys.executable, "-m", "benchmarks.allocator", "--one", name, "--pictures", str(options.pictures)]
            runs.append(json.loads(subprocess.check_output(command, env=os.environ | DASKS)))
            print(f"round {turn + 1} of {options.rounds}, {name}: {runs[-1]['seconds']:.1f} s", file=sys.stderr)
    medians = {
        name: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for name, runs in found.items()
    }
    for name, times in medians.items():
        print(f"{name}, {options.pictures} pictures: {times['seconds']:.2f} s, {times['system']:.2f} s in the kernel")
    print(f"{medians['dask']['seconds'] / medians['ours']['seconds']:.2f} × as fast as under Dask's limits")


if __name__ == "__main__":
    main()

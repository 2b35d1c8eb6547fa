"""What a limit of lists (`negatives.max_lists`) costs, and what a second worker saves of it.

python -m benchmarks.max_lists [--captions 100000] [--shards 20] [--most 300]

The stage `negatives` on made-up captions, five an image, seed 0. The peer is the same stage without a limit. Processor
seconds are those of this process and its workers. The lists of one worker and of two must have the same bytes.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.captions_text import made_up
from benchmarks.growth import curated, shards
from pairloom.store.folder import open_folder
from pipeline.config import RunConfig
from pipeline.executor import Options, run_stage
from stages.negatives import Config


def took(data: Path, config: Config, workers: int) -> tuple[float, float]:
    """Seconds of the processor and of the clock."""
    start, before = time.monotonic(), sum(os.times()[:4])
    run_stage("negatives", config, data, Options(RunConfig(cluster="local", workers=workers)))
    return sum(os.times()[:4]) - before, time.monotonic() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=int, default=100_000)
    parser.add_argument("--shards", type=int, default=20)
    parser.add_argument("--most", type=int, default=300)
    arguments = parser.parse_args()
    tables = list(shards(made_up(arguments.captions), arguments.shards))
    rules = {"no limit": Config(near_distance=None), "limit": Config(near_distance=None, max_lists=arguments.most)}
    written = []
    with tempfile.TemporaryDirectory() as room:
        curated(Path(room) / "warm", tables[:1])
        took(Path(room) / "warm", rules["limit"], 1)  # compiles
        for name, workers in (("no limit", 1), ("limit", 1), ("limit", 2)):
            data = Path(room) / f"{name}-{workers}"
            curated(data, tables)
            used, passed = took(data, rules[name], workers)
            print(f"{name}, {workers} workers: {used:.1f} s of the processor, {passed:.1f} s of the clock", flush=True)
            written.append([entry.sha256 for entry in open_folder(data / "negatives").shards])
    assert written[1] == written[2], "two workers wrote other lists than one"
    return 0


if __name__ == "__main__":
    sys.exit(main())

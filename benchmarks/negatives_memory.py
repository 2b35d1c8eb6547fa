"""Memory of a worker that mines hard negatives: it maps the index that another process built, as in the stage.

python -m benchmarks.negatives_memory [--captions 3000000] [--queries 2000]

Made-up captions with stop words, seed 0, one an image. Two processes, one after the other: the first reads the captions
and writes the index, the second opens it and mines. The peer is sparse_dot_topn in the table of benchmarks/negatives,
whose process holds the vectors of all captions.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.captions_text import made_up
from stages.negatives import Config, setup
from stages.negatives.building import note
from stages.negatives.captions import table_of
from stages.negatives.inverted import finish, read, save
from stages.negatives.mining import mine_captions
from stages.negatives.table import negatives_at


def peak() -> int:
    """MB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def build(folder: Path, count: int) -> None:
    ids = pa.array([number.to_bytes(16, "big") for number in range(count)], pa.binary(16))
    captions = table_of(ids, np.zeros(count, np.int64), made_up(count), pa.nulls(count, pa.string()))
    made, began = peak(), time.perf_counter()
    ready = read(captions, Config(), count)
    save(folder / "0", ready.statistics, finish(ready, Config()))
    note(folder, [None], {}, {})
    print(f"builds the index in {time.perf_counter() - began:.0f} s, peak {peak():,} MB, {made:,} before", flush=True)


def mine(folder: Path, queries: int) -> None:
    config = Config()
    index = setup(config, folder).indexes[None]
    count = len(index.parts[0].captions.table)
    rows = np.linspace(0, count - 1, min(queries, count)).astype(np.int64)
    mine_captions(index, 0, rows[:10], config)  # compiles
    began = time.perf_counter()
    found = mine_captions(index, 0, rows, config)
    negatives_at(index, found.places, found.similarities)
    rate, size = len(rows) / (time.perf_counter() - began), sum(file.stat().st_size for file in folder.rglob("*.*"))
    print(f"mines {rate:,.0f} captions/s, peak {peak():,} MB, {size / 1e6:,.0f} of them the index, which workers share")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=int, default=3_000_000)
    parser.add_argument("--queries", type=int, default=2000)
    options = parser.parse_args()
    print(f"{options.captions:,} captions")
    processes = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        for target, number in ((build, options.captions), (mine, options.queries)):
            process = processes.Process(target=target, args=(Path(folder), number))
            process.start()
            process.join()
            assert process.exitcode == 0


if __name__ == "__main__":
    main()

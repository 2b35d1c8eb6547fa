"""What bounds the loader on regions: a copy in memory, a bare read, a read with its checksums, and the loader itself.

`python -m benchmarks.loader_floor [--rows 1600] [--batches 200]`. Rows and batches as in benchmarks/loader.py, no
workers, warm cache. All four take turns, batch by batch, and each batch has random rows. CPU seconds. The quickest
tenth of the batches counts, since other work on the machine can only make one slower.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.formats import WIDTH
from benchmarks.loader import BATCH, REGIONS, SEED, make_records, our_loader, write_ours
from pairloom.loader.buffers import Buffers
from pairloom.store import index
from pairloom.store.folder import open_folder
from pairloom.store.index import block_sums
from pairloom.table import Array

ROW = REGIONS * WIDTH * 2  # bytes


class Bare:
    """Random rows of the first shard, read into a batch's memory by position."""

    def __init__(self, folder: Path) -> None:
        entry = open_folder(folder).shards[0]
        shard = open_folder(folder).file(entry.name)
        found = index.read(index.path_of(shard), entry.sha256)
        assert found is not None
        self.at = found.places("features").at
        self.file = os.open(shard, os.O_RDONLY)
        self.rng = np.random.default_rng(SEED)
        self.source = np.ones(400 << 20, np.uint8)  # more than a cache holds
        self.memory: Array = Buffers().empty((BATCH, ROW), np.dtype(np.uint8))

    def copy(self) -> None:
        for place in self.memory:
            start = int(self.rng.integers(len(self.source) - ROW))
            np.copyto(place, self.source[start : start + ROW])

    def read(self) -> None:
        for place in self.memory:
            os.preadv(self.file, [place], int(self.at[self.rng.integers(len(self.at))]))

    def verified(self) -> None:
        for place in self.memory:
            os.preadv(self.file, [place], int(self.at[self.rng.integers(len(self.at))]))
            block_sums(place.data)


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1600)
    parser.add_argument("--batches", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write_ours(Path(folder), make_records(arguments.rows))
        bare, source = Bare(Path(folder)), iter(our_loader(Path(folder), 0))
        for _ in range(2 * arguments.rows // BATCH):
            next(source)  # all row groups are open
        ways = {"memcpy": bare.copy, "read": bare.read, "read, verified": bare.verified, "loader": source.__next__}
        spent = {name: [] for name in ways}  # type: dict[str, list[float]]
        for _ in range(arguments.batches):
            for name, work in ways.items():
                spent[name].append(seconds(work))
    quick = {name: float(np.quantile(found, 0.1)) / BATCH for name, found in spent.items()}
    for name, found in quick.items():
        share = quick["memcpy"] / found
        print(f"{name:16}{1e6 * found:8.1f} µs a row{ROW / found / 1e9:8.2f} GB/s{share:8.2f} of memcpy")


if __name__ == "__main__":
    main()

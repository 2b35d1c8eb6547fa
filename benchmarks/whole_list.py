"""A list of millions of rows through all stages but regions: time, and the memory of the process that coordinates.

python -m benchmarks.whole_list [--rows 100000 1000000 10000000] [--stages sample …] [--folder DIR]

A row is a URL and a caption, in Parquet files of a million rows. A picture comes in `--captions` rows, 100,000 rows
apart, so that stage `sample` unites them. Pictures lie in Parquet files, too (`pics:train-0.parquet/17/image`). Each
is a PNG of 8 × 8 random grey pixels (129 bytes), so that ids and hashes differ, and reading and decoding one costs as
little as it can. A caption is four of rows / 5 words, so that a word is in about 20 captions and the search for
negatives costs the same for each.

Each stage is the command `pairloom stage` in a process of its own with two local workers, as `dvc repro` runs it, and
`pairloom lint` comes last. Tags need regions, so both are left out. `curate.min_side` is 1 for the pictures' sake,
`negatives.top_k` is 5 for the disk's, and `shards.shard_bytes` 16 MB, which is some thousand rows, as 256 MB are of
photographs.

Memory is what a process has to itself (RssAnon), looked at five times a second. Pages of files, which the system can
drop, do not count, but the kernel's own peak of the coordinator is told beside it. MB a million rows are those beyond
the smallest number of rows.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

STAGES = ("sample", "download", "curate", "negatives", "shards", "lint")
SETTINGS: dict[str, dict[str, Any]] = {
    "run": {"cluster": "local", "workers": 2},
    "sample": {"rows_per_shard": 10_000},
    "download": {},
    "curate": {"min_side": 1},
    "negatives": {"top_k": 5},
    "shards": {"regions": False, "tags": False, "shard_bytes": 16 << 20},
}
PICTURES = 100_000  # of a file
SIDE = 8  # pixels
EVERY_S = 0.2


@dataclass
class Cost:
    """What a stage took. Sizes are MB."""

    rows: int
    seconds: float = 0.0
    cpu: float = 0.0  # seconds of all its processes
    own_cpu: float = 0.0  # of which the coordinator's
    coordinator: float = 0.0  # what it had to itself, at most
    resident: float = 0.0  # of it with pages of files, at most
    worker: float = 0.0  # what the largest other process had to itself, at most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", type=int, default=[100_000, 1_000_000])
    parser.add_argument("--captions", type=int, default=10, help="rows of each picture")
    parser.add_argument("--stages", nargs="+", default=list(STAGES), choices=STAGES)
    parser.add_argument("--folder", type=Path, help="where tables lie and stay (default: a temporary folder)")
    arguments = parser.parse_args()
    found: dict[str, list[Cost]] = {name: [] for name in arguments.stages}
    for rows in arguments.rows:
        with tempfile.TemporaryDirectory() as temporary:
            folder = (arguments.folder or Path(temporary)) / str(rows)
            write_list(folder, rows, arguments.captions)
            for name, costs in found.items():
                costs.append(staged(name, folder, rows))
                print(line(name, costs), flush=True)


def line(name: str, costs: Sequence[Cost]) -> str:
    """A row of the table, with exponents of the step from the number of rows before."""
    last = costs[-1]
    text = f"| `{name}` | {last.rows:,} | {last.seconds:.0f} | {last.cpu:.0f} | {last.own_cpu:.0f} |"
    text += f" {last.coordinator:.0f} ({last.resident:.0f}) | {last.worker:.0f} |"
    if len(costs) == 1:
        return f"{text} | |"
    more = (last.rows - costs[0].rows) / 1e6
    power = math.log(last.cpu / costs[-2].cpu) / math.log(last.rows / costs[-2].rows)
    return f"{text} {(last.coordinator - costs[0].coordinator) / more:.0f} | {power:.2f} |"


def staged(name: str, folder: Path, rows: int) -> Cost:
    """Run one stage on what lies in the folder, or `pairloom lint` on all of it."""
    command = [sys.executable, "-m", "pipeline.cli"]
    if name == "lint":
        command += ["lint", str(folder / "data")]
    else:
        command += ["stage", name, "--data", str(folder / "data"), "--quiet"]
        command += ["--metrics", str(folder / "metrics"), "--params", str(folder / "params.yaml")]
    before, start = children_cpu(), time.monotonic()
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        watch = Watch(psutil.Process(process.pid), Cost(rows))
        thread = threading.Thread(target=watch.run)
        thread.start()
        code = process.wait()
        watch.over.set()
        thread.join()
    if code:
        sys.exit(f"{name} ended with {code}:\n{(folder / f'{name}.log').read_text()[-3000:]}")
    watch.cost.seconds, watch.cost.cpu = time.monotonic() - start, children_cpu() - before
    return watch.cost


def children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@dataclass
class Watch:
    """Looks at a process and those that it started."""

    process: psutil.Process
    cost: Cost
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.over.wait(EVERY_S):
            try:
                self.look()
            except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):  # one has just ended
                continue

    def look(self) -> None:
        cost, own = self.cost, memory(self.process.pid)
        cost.coordinator = max(cost.coordinator, own.get("RssAnon", 0.0))
        cost.resident = max(cost.resident, own.get("VmHWM", 0.0))
        times = self.process.cpu_times()
        cost.own_cpu = max(cost.own_cpu, times.user + times.system)
        for child in self.process.children(recursive=True):
            cost.worker = max(cost.worker, memory(child.pid).get("RssAnon", 0.0))


def memory(pid: int) -> dict[str, float]:
    """MB by the names of /proc. Of a process that has ended there is none."""
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {words[0][:-1]: int(words[1]) / 1024 for words in lines if words[-1] == "kB"}


def write_list(folder: Path, rows: int, captions: int) -> None:
    """The list, its pictures and the settings, if they are not there."""
    started = folder.with_name(folder.name + ".tmp")
    if folder.exists():
        return
    (started / "list").mkdir(parents=True)
    (started / "pictures").mkdir()
    sample = {**SETTINGS["sample"], "urls": str(folder / "list"), "sources": {"pics": str(folder / "pictures")}}
    (started / "params.yaml").write_text(yaml.safe_dump({**SETTINGS, "sample": sample}))
    for number, first in enumerate(range(0, rows // captions, PICTURES)):
        rng, size = np.random.default_rng(number), min(PICTURES, rows // captions - first)
        name = f"train-{number:05d}.parquet"
        words = rng.integers(0, max(rows // 5, 1), (size * captions, 4)).tolist()
        listed = {
            "url": [f"pics:{name}/{row}/image" for row in range(size)] * captions,
            "caption": [f"w{a} w{b} w{c} w{d}" for a, b, c, d in words],
        }
        pq.write_table(pa.table(listed), started / "list" / name)
        table = pa.table({"image": pa.array(pictures(rng, size), pa.binary())})
        pq.write_table(table, started / "pictures" / name, row_group_size=10_000, compression="NONE")
    started.rename(folder)


def pictures(rng: np.random.Generator, size: int) -> Iterator[bytes]:
    """PNGs of random grey pixels (ISO/IEC 15948), not compressed."""
    pixels = rng.integers(0, 256, (size, SIDE, SIDE + 1), np.uint8)
    pixels[:, :, 0] = 0  # the filter of each line: none
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", SIDE.to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0]))
    end = chunk(b"IEND", b"")
    return (head + chunk(b"IDAT", zlib.compress(one.tobytes(), 0)) + end for one in pixels)


def chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()

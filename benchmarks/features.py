"""Layouts of region features, read and written, beside the least that any reader of them has to do.

    python -m benchmarks.features --pictures 300 --layouts lxmert-tsv,uniter-npz

Of a TSV the least is decoding its base64 (the cells are in memory already); of all others reading the files' bytes
from the page cache: a disk is slower than that. MB are of the files, a second is one of a processor: others may run
beside. Memory is the most that reading took beyond what the process had before, for so many pictures and for four times
as many.

    python -m benchmarks.features --cold --pictures 2000 --layouts uniter-npz,uniter-lmdb

compares with a plain read of the same files by the clock, each time from the disk: the page cache forgets them before.

    python -m benchmarks.features --gb 50 --layouts lxmert-tsv

reads so many gigabytes, which are one file under many names, and fails where that takes more than MOST_MB.
"""

from __future__ import annotations

import argparse
import binascii
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil

from formats import features
from formats.features.record import Record, Vocabularies
from pipeline.memory import keep_freed_memory

REGIONS, WIDTH, CLASSES = 36, 2048, 1600
TSV = "-tsv"
MOST_MB = 64  # that reading any number of bytes may take


@dataclass(frozen=True)
class Line:
    """One layout's figures, MB/s of its files."""

    layout: str
    size_mb: float
    written: float
    read: float
    least: float
    memory_mb: tuple[float, float]

    def __str__(self) -> str:
        share = self.read / self.least
        small, large = self.memory_mb
        return (
            f"{self.layout:24} {self.size_mb:8.0f} {self.written:8.0f} {self.read:8.0f} {self.least:8.0f} "
            f"{share:6.0%} {small:8.0f} {large:8.0f}"
        )


def records(count: int) -> Iterator[Record]:
    """Pictures with features as a network gives them (not negative), without probabilities of all classes."""
    rng = np.random.default_rng(0)
    features = rng.exponential(size=(REGIONS, WIDTH)).astype(np.float32)
    corners = np.sort(rng.random((REGIONS, 2, 2)), axis=1).reshape(REGIONS, 4) * 400
    for number in range(count):
        yield Record(
            key=f"COCO_train2014_{number:012d}",
            width=640,
            height=480,
            boxes=corners.astype(np.float32),
            features=features + np.float32(number / 64),
            class_ids=rng.integers(0, CLASSES, REGIONS),
            class_scores=rng.random(REGIONS).astype(np.float32),
            attribute_ids=rng.integers(0, 400, REGIONS),
            attribute_scores=rng.random(REGIONS).astype(np.float32),
        )


def write(layout: str, folder: Path, count: int) -> float:
    """Seconds that the writer took, without making the records."""
    folder.mkdir()
    words = Vocabularies(classes=[f"class {n}" for n in range(CLASSES)], attributes=[f"look {n}" for n in range(400)])
    module = features.load(layout)
    writer = module.Writer(folder, words, {})
    seconds = 0.0
    for record in records(count):
        seconds += timed(lambda record=record: writer.add(module.entry(record, words)))  # type: ignore[misc]
    return seconds + timed(writer.flush) + timed(writer.close)


def timed(step: Callable[[], object]) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start


def read(layout: str, folder: Path) -> int:
    found = 0
    for one in features.load(layout).read(folder, "<f4"):
        assert isinstance(one, Record)
        found += 1
    return found


def least(layout: str, files: list[Path]) -> float:
    """Seconds for what nobody can leave out."""
    if not layout.endswith(TSV):
        return timed(lambda: [file.read_bytes() for file in files])
    contents = [file.read_bytes() for file in files if file.stat().st_size > 1 << 20]
    cells = [cell for content in contents for line in content.splitlines() for cell in encoded_cells(layout, line)]
    return timed(lambda: [binascii.a2b_base64(cell) for cell in cells])


def encoded_cells(layout: str, line: bytes) -> list[bytes]:
    """The base64 of a line; in VinVL's it is the values of "feature" in JSON."""
    if layout == "vinvl-tsv":
        return [part.partition(b'"')[0] for part in line.split(b'"feature": "')[1:]]
    return [cell for cell in line.split(b"\t") if len(cell) > 1000]


def memory_of(layout: str, folder: Path) -> float:
    """MB that reading takes at most beyond the process before it, in a process of its own."""
    with get_context("spawn").Pool(1) as pool:
        found: float = pool.apply(_memory, (layout, folder))
    return found


def _memory(layout: str, folder: Path) -> float:
    process, most = psutil.Process(), 0
    module = features.load(layout)
    before = process.memory_info().rss - shared(process)
    for number, _ in enumerate(module.read(folder, "<f4")):
        if number % 50 == 0:
            most = max(most, process.memory_info().rss - shared(process))
    return float(max(most - before, 0) / 1e6)


def read_many(layout: str, gigabytes: float, pictures: int, root: Path) -> str:
    """Reads a folder of so many bytes: a name of the same file for each part of it, so that it takes no such disk."""
    write(layout, root / "one", pictures)
    (root / "many").mkdir()
    file = max((root / "one").glob("*.tsv"), key=lambda each: each.stat().st_size)
    names = max(1, round(gigabytes * 1e9 / file.stat().st_size))
    for number in range(names):
        os.link(file, root / f"many/{number:06d}.tsv")
    start = time.monotonic()
    memory = memory_of(layout, root / "many")
    seconds, total = time.monotonic() - start, names * file.stat().st_size / 1e9
    if memory > MOST_MB:
        raise SystemExit(f"{layout}: {memory:.0f} MB for {total:.1f} GB, more than {MOST_MB}")
    return f"{layout}: {total:.1f} GB, {names * pictures:,} pictures in {seconds:.0f} s, at most {memory:.0f} MB"


def cold(layout: str, pictures: int, root: Path) -> str:
    """MB/s from the disk: the layout's reader, and a plain read of the same files."""
    write(layout, root / "cold", pictures)
    files = sorted(path for path in (root / "cold").rglob("*") if path.is_file() and path.name != "lock.mdb")
    size = sum(path.stat().st_blocks * 512 for path in files) / 1e6
    steps: list[Callable[[], object]] = [lambda: read(layout, root / "cold"), lambda: plain(files)]
    rates = [size / min(from_disk(step, files) for _ in range(3)) for step in steps]
    return f"{layout:24} {size:8.0f} {rates[0]:8.0f} {rates[1]:8.0f} {rates[0] / rates[1]:6.0%}"


def plain(files: list[Path]) -> None:
    """Each file once, in blocks; of a database with holes only what is written."""
    for path in files:
        with path.open("rb", buffering=0) as file:
            left = path.stat().st_blocks * 512
            while left > 0 and (block := file.read(1 << 20)):
                left -= len(block)


def from_disk(step: Callable[[], object], files: list[Path]) -> float:
    """Seconds by the clock, once the page cache has forgotten these files."""
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    start = time.monotonic()
    step()
    return time.monotonic() - start


def shared(process: psutil.Process) -> int:
    """Pages of mapped files, such as those of a database, which the system takes back when it needs them."""
    return int(process.memory_info().shared)


def measure(layout: str, pictures: int, root: Path) -> Line:
    folder = root / layout
    written = write(layout, folder, pictures)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "lock.mdb")
    size = sum(path.stat().st_blocks * 512 if path.suffix == ".mdb" else path.stat().st_size for path in files) / 1e6
    seconds = min(timed(lambda: read(layout, folder)) for _ in range(2))
    lower = min(least(layout, files) for _ in range(2))
    write(layout, root / f"{layout} large", 4 * pictures)
    memory = memory_of(layout, folder), memory_of(layout, root / f"{layout} large")
    return Line(layout, size, size / written, size / seconds, size / lower, memory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--layouts", default=",".join(name for name in features.names() if name != "grid-npy"))
    parser.add_argument("--gb", type=float, help="read so many, in place of the table")
    parser.add_argument("--dir", type=Path, help="where files are made (default: the folder for temporary ones)")
    parser.add_argument("--cold", action="store_true", help="from the disk, beside a plain read")
    arguments = parser.parse_args()
    keep_freed_memory()  # as the command does
    if arguments.gb:
        for layout in arguments.layouts.split(","):
            with tempfile.TemporaryDirectory(prefix="formats-") as root:
                print(read_many(layout, arguments.gb, arguments.pictures, Path(root)), flush=True)
        return
    if arguments.cold:
        print(f"{'layout':24} {'MB':>8} {'read':>8} {'plain':>8} {'share':>6}")
        for layout in arguments.layouts.split(","):
            with tempfile.TemporaryDirectory(prefix="formats-", dir=arguments.dir) as root:
                print(cold(layout, arguments.pictures, Path(root)), flush=True)
        return
    print(f"{'layout':24} {'MB':>8} {'written':>8} {'read':>8} {'least':>8} {'share':>6} {'memory':>8} {'4 times':>8}")
    for layout in arguments.layouts.split(","):
        with tempfile.TemporaryDirectory(prefix="formats-") as root:
            os.sync()
            print(measure(layout, arguments.pictures, Path(root)), flush=True)


if __name__ == "__main__":
    main()

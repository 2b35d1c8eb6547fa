"""Reading region features from our shards against the layouts people use: base64 TSV (LXMERT's) and Parquet lists.

`python -m benchmarks.shards [--rows 800]`: seeded features of 36 regions × 2048 float16 a row, one process, warm cache.
Every reader ends with the same thing in hand: one float array of shape (36, 2048) a row.
`--write`: writing whole rows (as in benchmarks/loader.py) instead, against its peers and a plain write, and `verify`.
`--parts`: what writing a shard is made of, in turn: the encoder into nothing, SHA-256, a plain write, and the shard.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.formats import PEERS
from benchmarks.loader import make_records, shard
from benchmarks.loader import write_ours as write_rows
from pairloom.store.folder import open_folder, read_shard
from pairloom.store.verify import verify
from pairloom.store.writing import ROW_GROUP_BYTES, _write_parquet, write_shard
from pairloom.table import Column, Table, blob

REGIONS, WIDTH = 36, 2048
TABLE = Table("features", 1, "an image", (Column("features", blob("<f2", REGIONS, WIDTH), "one vector a region"),))
Features = npt.NDArray[np.float16] | npt.NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=800)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--parts", action="store_true")
    arguments = parser.parse_args()
    if arguments.parts:
        parts(arguments.rows)
        return
    if arguments.write:
        writing(arguments.rows)
        return
    rows = arguments.rows
    rng = np.random.default_rng(0)
    features = [rng.gamma(0.5, 1.0, (REGIONS, WIDTH)).astype("<f2") for _ in range(rows)]
    with tempfile.TemporaryDirectory() as folder:
        report(features, Path(folder))


def report(features: list[Features], folder: Path) -> None:
    readers = {
        "pairloom shard": (write_ours, read_ours),
        "Parquet list<halffloat>": (write_list, read_list),
        "base64 TSV (LXMERT)": (write_tsv, read_tsv),
    }
    size = sum(array.nbytes for array in features)
    print(f"{len(features)} rows, {size / 1e6:.0f} MB of float16; pyarrow {pa.__version__}, numpy {np.__version__}")
    print(f"{'layout':26}{'write MB/s':>12}{'read MB/s':>12}{'MB on disk':>12}{'read, ours = 1':>16}")
    ours = 0.0
    for name, (write, read) in readers.items():
        path = folder / name.replace(" ", "-")
        written = seconds(lambda write=write, path=path: write(path, features))  # type: ignore[misc]
        read_s = min(seconds(lambda read=read, path=path: check(read(path), features)) for _ in range(3))  # type: ignore[misc]
        ours = ours or read_s
        disk = sum(file.stat().st_size for file in ([path] if path.is_file() else path.iterdir()))
        print(
            f"{name:26}{size / written / 1e6:12.0f}{size / read_s / 1e6:12.0f}{disk / 1e6:12.0f}{read_s / ours:15.1f}×",
            file=sys.stdout,
        )


def writing(rows: int) -> None:
    """MB/s of each format's writer over that of a plain write of the same bytes, synced to disk like ours."""
    records = make_records(rows)
    blobs = [record["features"].tobytes() + record["jpg"] for record in records]
    size = sum(map(len, blobs))
    memcpy = seconds(lambda: [bytearray(blob) for blob in blobs])
    print(
        f"{rows} rows, {size / 1e6:.0f} MB of features and pictures; copied in memory at {size / memcpy / 1e6:.0f} MB/s"
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        plain = seconds(lambda: write_plain(folder / "plain", blobs))
        print(f"{'writer':26}{'MB/s':>8}{'of plain':>10}{'MB on disk':>12}")
        print(f"{'plain write, synced':26}{size / plain / 1e6:8.0f}")
        writers: dict[str, Callable[[Path, Any], None]] = {"pairloom": write_rows}
        for name, write in (writers | {peer.name: peer.write for peer in PEERS}).items():
            path = folder / name.split()[0]
            path.mkdir()
            taken = seconds(lambda path=path, write=write: write(path, records))  # type: ignore[misc]
            disk = sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e6
            print(f"{name:26}{size / taken / 1e6:8.0f}{plain / taken:10.2f}{disk:12.0f}", flush=True)
        table = shard(records, 0)
        alone = seconds(lambda: write_shard(folder, "alone", table))
        print(f"{'pairloom, table to shard':26}{size / alone / 1e6:8.0f}{plain / alone:10.2f}  (no building, no index)")
        ours = open_folder(folder / "pairloom")
        taken = seconds(lambda: verify(ours))
        hashed = seconds(lambda: [hashlib.sha256(blob) for blob in blobs])
        print(f"verify: {size / taken / 1e6:.0f} MB/s in all threads, SHA-256 in one: {size / hashed / 1e6:.0f}")


class Nothing(io.RawIOBase):
    """A file that keeps nothing."""

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        return len(content)


def parts(rows: int, rounds: int = 9) -> None:
    """MB/s, and CPU seconds of all threads a GB, of the quickest and the cheapest of some rounds."""
    records = make_records(rows)
    blobs = [record["features"].tobytes() + record["jpg"] for record in records]
    table, size = shard(records, 0), sum(map(len, blobs))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        ways: dict[str, Callable[[], object]] = {
            "encoder into nothing": lambda: _write_parquet(table, Nothing(), ROW_GROUP_BYTES),
            "SHA-256": lambda: [hashlib.sha256(blob) for blob in blobs],
            "plain write, synced": lambda: write_plain(folder / "plain", blobs),
            "shard": lambda: write_shard(folder, "shard", table),
        }
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, work in ways.items():
                cpu = time.process_time()
                taken[name].append((seconds(work), time.process_time() - cpu))
                for file in folder.iterdir():
                    file.unlink()
    for name, found in taken.items():
        wall, cpu = np.min(found, axis=0)
        print(f"{name:24}{size / wall / 1e6:8.0f} MB/s{1e9 * cpu / size:8.2f} CPU s a GB")


def write_plain(path: Path, blobs: list[bytes]) -> None:
    with path.open("wb") as file:
        file.writelines(blobs)
        file.flush()
        os.fsync(file.fileno())


def check(found: Iterator[Features], wanted: list[Features]) -> None:
    """Take every row. The last must be right, so that no reader gets away with doing nothing."""
    last = None
    for last in found:  # noqa: B007  # we want what is left after the loop
        pass
    assert last is not None
    np.testing.assert_array_equal(last.astype(np.float16), wanted[-1])


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def write_ours(path: Path, features: list[Features]) -> None:
    write_shard(path, "00000", TABLE.table(features=features))


def read_ours(path: Path) -> Iterator[Features]:
    kind = TABLE.columns[0].type
    assert not isinstance(kind, pa.DataType)
    for row in kind.unpack(read_shard(path / "00000.parquet")["features"]):
        yield row.reshape(REGIONS, WIDTH)


def write_list(path: Path, features: list[Features]) -> None:
    flat = pa.array(np.concatenate([array.ravel() for array in features]))
    offsets = pa.array(np.arange(len(features) + 1) * REGIONS * WIDTH, pa.int64())
    pq.write_table(pa.table({"features": pa.LargeListArray.from_arrays(offsets, flat)}), path, row_group_size=200)


def read_list(path: Path) -> Iterator[Features]:
    for chunk in pq.read_table(path)["features"].chunks:
        values = chunk.values.to_numpy(zero_copy_only=True)
        for start in chunk.offsets.to_numpy()[:-1]:
            yield values[start : start + REGIONS * WIDTH].reshape(REGIONS, WIDTH)


def write_tsv(path: Path, features: list[Features]) -> None:
    with path.open("w", encoding="ascii") as file:
        for number, array in enumerate(features):
            text = base64.b64encode(array.astype(np.float32).tobytes()).decode()
            file.write(f"{number}\t{REGIONS}\t{text}\n")


def read_tsv(path: Path) -> Iterator[Features]:
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="ascii") as file:
        for _, regions, text in csv.reader(file, delimiter="\t"):
            yield np.frombuffer(base64.b64decode(text), dtype=np.float32).reshape(int(regions), WIDTH)


if __name__ == "__main__":
    main()

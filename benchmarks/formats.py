"""The peers of benchmarks/loader.py: how each stores the same rows and gives them back, the way its users would.

A record is one image: JPEG bytes, features (R, 2048) float16, boxes (R, 4) float32, five captions. `rows` yields
(features, boxes, caption) of this worker's share from row `start` on. Formats with random access in random order.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pairloom.table import Array

WIDTH = 2048
Record = dict[str, Any]
Row = tuple[Array, Array, str]


@dataclass(frozen=True)
class Peer:
    """One format: writes records to a folder, and reads a worker's share (worker, workers, start)."""

    name: str
    write: Callable[[Path, Sequence[Record]], None]
    rows: Callable[[Path, int, int, int], Iterator[Row]]
    forks: bool = True  # whether its reader survives a fork


def order(count: int, worker: int, workers: int, start: int) -> list[int]:
    """A random order of row numbers, from `start` on, every workers-th of them."""
    return [int(i) for i in np.random.default_rng(0).permutation(count)[start:][worker::workers]]


def packed(record: Record) -> dict[str, Any]:
    blobs = {"features": record["features"].tobytes(), "boxes": record["boxes"].tobytes()}
    return {"jpg": record["jpg"], **blobs, "captions": record["captions"]}


def unpacked(found: dict[str, Any]) -> Row:
    features = np.frombuffer(found["features"], np.float16).reshape(-1, WIDTH)
    return features, np.frombuffer(found["boxes"], np.float32).reshape(-1, 4), found["captions"][0]


def write_wds(folder: Path, records: Sequence[Record]) -> None:
    import webdataset as wds

    with wds.ShardWriter(str(folder / "%05d.tar"), maxcount=400, verbose=0) as sink:
        for number, record in enumerate(records):
            parts = packed(record)
            sink.write({"__key__": f"{number:08d}", "jpg": parts["jpg"], "features.bin": parts["features"],
                        "boxes.bin": parts["boxes"], "json": json.dumps(parts["captions"]).encode()})  # fmt: skip


def rows_wds(folder: Path, worker: int, workers: int, start: int) -> Iterator[Row]:
    import webdataset as wds

    files = sorted(map(str, folder.glob("*.tar")))
    found = wds.WebDataset(files[worker::workers], shardshuffle=False, empty_check=False, workersplitter=None)
    for number, record in enumerate(found.shuffle(200, initial=200)):
        if number >= start // workers:  # no resume by design: what was consumed is read again
            captions = json.loads(record["json"])
            yield unpacked({"features": record["features.bin"], "boxes": record["boxes.bin"], "captions": captions})


def write_lmdb(folder: Path, records: Sequence[Record]) -> None:
    import lmdb
    import msgpack

    with lmdb.open(str(folder), map_size=1 << 36) as base, base.begin(write=True) as writing:
        for number, record in enumerate(records):
            writing.put(f"{number:08d}".encode(), msgpack.packb(packed(record)))
        writing.put(b"count", str(len(records)).encode())


def rows_lmdb(folder: Path, worker: int, workers: int, start: int) -> Iterator[Row]:
    import lmdb
    import msgpack

    base = lmdb.open(str(folder), readonly=True, lock=False, readahead=False)
    with base.begin(buffers=True) as reading:
        count: Any = reading.get(b"count")
        for number in order(int(bytes(count)), worker, workers, start):
            yield unpacked(msgpack.unpackb(reading.get(f"{number:08d}".encode())))


def write_npz(folder: Path, records: Sequence[Record]) -> None:
    for number, record in enumerate(records):
        np.savez(folder / f"{number:08d}.npz", jpg=np.frombuffer(record["jpg"], np.uint8), features=record["features"],
                 boxes=record["boxes"], captions=np.array(record["captions"]))  # fmt: skip


def rows_npz(folder: Path, worker: int, workers: int, start: int) -> Iterator[Row]:
    for number in order(len(list(folder.iterdir())), worker, workers, start):
        with np.load(folder / f"{number:08d}.npz") as found:
            yield found["features"], found["boxes"], str(found["captions"][0])


def write_tsv(folder: Path, records: Sequence[Record]) -> None:
    with (folder / "rows.tsv").open("w", encoding="ascii") as file:
        for record in records:
            blobs = (record["features"].astype(np.float32).tobytes(), record["boxes"].tobytes(), record["jpg"])
            texts = [base64.b64encode(blob).decode() for blob in blobs]
            file.write("\t".join([*texts, json.dumps(record["captions"])]) + "\n")


def rows_tsv(folder: Path, worker: int, workers: int, start: int) -> Iterator[Row]:
    csv.field_size_limit(sys.maxsize)
    with (folder / "rows.tsv").open(encoding="ascii") as file:
        for number, (features, boxes, _, captions) in enumerate(
            csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        ):
            if number >= start and number % workers == worker:
                vectors = np.frombuffer(base64.b64decode(features), np.float32).reshape(-1, WIDTH).astype(np.float16)
                corners = np.frombuffer(base64.b64decode(boxes), np.float32).reshape(-1, 4)
                yield vectors, corners, json.loads(captions)[0]


def write_hf(folder: Path, records: Sequence[Record]) -> None:
    import datasets

    datasets.disable_progress_bars()
    datasets.Dataset.from_list([packed(record) for record in records]).save_to_disk(str(folder))


def rows_hf(folder: Path, worker: int, workers: int, start: int) -> Iterator[Row]:
    import datasets

    found = datasets.load_from_disk(str(folder)).select_columns(["features", "boxes", "captions"])
    for number in order(len(found), worker, workers, start):
        yield unpacked(found[number])


def write_lance(folder: Path, records: Sequence[Record]) -> None:
    import lance
    import pyarrow as pa

    types = pa.schema({"jpg": pa.large_binary(), "features": pa.large_binary(), "boxes": pa.large_binary(),
                       "captions": pa.list_(pa.string())})  # fmt: skip
    parts = (records[start : start + 200] for start in range(0, len(records), 200))  # all at once took 23 GB
    batches = (pa.RecordBatch.from_pylist([packed(record) for record in part], schema=types) for part in parts)
    lance.write_dataset(pa.RecordBatchReader.from_batches(types, batches), str(folder / "d"))


def rows_lance(folder: Path, worker: int, workers: int, start: int) -> Iterator[Row]:
    import lance

    found = lance.dataset(str(folder / "d"))
    numbers = order(found.count_rows(), worker, workers, start)
    for first in range(0, len(numbers), 64):  # a batch at a time, as its own sampler does
        taken = found.take(numbers[first : first + 64], columns=["features", "boxes", "captions"])
        yield from map(unpacked, taken.to_pylist())


def write_litdata(folder: Path, records: Sequence[Record]) -> None:
    from litdata.streaming.writer import BinaryWriter

    writer = BinaryWriter(str(folder), chunk_bytes=64 << 20)
    for number, record in enumerate(records):
        writer.add_item(number, packed(record))
    writer.done()
    writer.merge(1)


def rows_litdata(folder: Path, worker: int, workers: int, start: int) -> Iterator[Row]:
    from litdata import StreamingDataset

    found = StreamingDataset(str(folder), shuffle=True)
    for number, record in enumerate(found):  # splits itself among DataLoader's workers
        if number >= start // workers:
            yield unpacked(record)


def write_mds(folder: Path, records: Sequence[Record]) -> None:
    from streaming import MDSWriter  # in an environment of its own

    columns = {"jpg": "bytes", "features": "bytes", "boxes": "bytes", "captions": "json"}
    with MDSWriter(out=str(folder), columns=columns, hashes=["xxh64"]) as sink:
        for record in records:
            sink.write(packed(record))


def rows_mds(folder: Path, worker: int, workers: int, start: int) -> Iterator[Row]:
    from streaming import StreamingDataset

    found = StreamingDataset(local=str(folder), shuffle=True, shuffle_seed=0, batch_size=64, num_canonical_nodes=1)
    if start:
        state = {"epoch": 0, "sample_in_epoch": start, "num_canonical_nodes": 1, "shuffle_seed": 0}
        found.load_state_dict(state | {"initial_physical_nodes": 1})
    yield from map(unpacked, found)  # splits itself among DataLoader's workers


STREAMING = Peer("mosaicml-streaming", write_mds, rows_mds)  # in an environment of its own
PEERS = (
    Peer("webdataset tar", write_wds, rows_wds),
    Peer("litdata", write_litdata, rows_litdata),
    Peer("LMDB + msgpack (UNITER)", write_lmdb, rows_lmdb),
    Peer("lance", write_lance, rows_lance, forks=False),
    Peer("Hugging Face datasets", write_hf, rows_hf),
    Peer("base64 TSV (LXMERT)", write_tsv, rows_tsv),
    Peer("npz a picture", write_npz, rows_npz),
)


def picture(rng: np.random.Generator) -> bytes:
    """A JPEG of 640 × 480 pixels and about 85 KB."""
    from PIL import Image

    coarse = Image.fromarray(rng.integers(0, 255, (30, 40, 3), np.uint8)).resize((640, 480), Image.Resampling.BICUBIC)
    noisy = np.asarray(coarse).astype(int) + rng.integers(-12, 12, (480, 640, 3))
    stream = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=86)
    return stream.getvalue()

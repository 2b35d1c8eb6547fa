"""From disk to padded training batches: pairloom's loader against what people use, in one run on the same rows.

`python -m benchmarks.loader [--rows 1600] [--workers 0 1]`. `--rows 26000` writes 8 GB a format. Seeded rows of 55
regions × 2048 float16, a JPEG of about 85 KB and five captions. Batches of 64 rows: features, boxes, mask, byte tokens.
Each format is read in a process of its own. CPU seconds are those of all its processes after the first batches, when
imports are over. The cache is warm. `--streaming PYTHON` compares mosaicml-streaming too, whose pins fit no environment
of ours: PYTHON is that of one which has it and sees ours behind it (a `.pth` file with our site-packages).
`--resume 1000000` times going on in the middle of many rows. `--pixels` compares the loader on pictures with the bare
decoder. `--shuffle` shows how well windows mix.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from benchmarks.formats import PEERS, STREAMING, WIDTH, Peer, Record, Row, picture
from pairloom import vectors
from pairloom.loader import Loader, Options
from pairloom.loader.batch import IGNORE, Batch, Example, Regions, Words
from pairloom.loader.collate import collate
from pairloom.loader.order import WHOLE, Order
from pairloom.store import index
from pairloom.store.folder import Header
from pairloom.store.writing import Writer, write_index, write_shard
from pairloom.vectors import Stored
from schemas.shards import SHARDS
from systems import recipes
from systems.parts import Shelf
from systems.units.regions import seven
from tests.building import training_row, training_shard, write_table
from trainer.recipe import parse

REGIONS, BATCH, SEED = 55, 64, 0
OURS = "pairloom"


class Letters:
    """A tokenizer that costs nothing: the bytes of a caption."""

    pad, mask = 0, None

    def words(self, text: str) -> Words:
        return self.many([text], [None])[0]

    def many(self, texts: Sequence[str], seconds: Sequence[str | None]) -> tuple[Words, list[int]]:
        bytes_of = [text.encode() for text in texts]
        ids = np.frombuffer(b"".join(bytes_of), np.uint8).astype(np.int64)
        nothing = np.zeros(len(ids), np.int64)
        return Words(ids, nothing, np.full(len(ids), IGNORE, np.int64), nothing.copy()), list(map(len, bytes_of))


def make_records(count: int) -> list[Record]:
    rng = np.random.default_rng(SEED)
    pictures = [picture(rng) for _ in range(16)]
    words = "a red dog on the green grass beside two small boats and an old clock".split()  # noqa: SIM905
    records = []
    for number in range(count):
        corners = rng.uniform(0, 400, (REGIONS, 2))
        features = np.empty((REGIONS, WIDTH), np.float16)
        features[:] = rng.standard_exponential((REGIONS, WIDTH), np.float32)
        boxes = np.concatenate([corners, corners + 60], axis=1).astype(np.float32)
        captions = [" ".join(rng.choice(words, 11)) for _ in range(5)]
        records.append({"jpg": pictures[number % 16], "features": features, "boxes": boxes, "captions": captions})
    return records


def write_ours(folder: Path, records: list[Record]) -> None:
    starts = range(0, len(records), 800)
    made = {f"train-{n:05d}": shard(records[start : start + 800], start) for n, start in enumerate(starts)}
    write_table(folder, SHARDS, made, indexed=True)


def shard(records: list[Record], start: int, stored: Stored = "float16") -> Any:
    ones = np.ones(len(records[0]["boxes"]))
    width = str(records[0]["features"].shape[1])
    rows = []
    for number, record in enumerate(records, start):
        packed, scales = vectors.pack(record["features"], stored)
        features = np.frombuffer(packed, vectors.NUMPY[stored])
        own = {} if stored != "int8" else {"feature_scales": np.frombuffer(scales or b"", "<f4")}
        rows.append(training_row(
            number, record["captions"], record["boxes"], features, image=record["jpg"], width=640, height=480,
            class_ids=ones, attribute_ids=ones, prob_ids=ones[:, None], prob_values=ones[:, None], **own,
        ))  # fmt: skip
    notes = {"feature_width": width, "prob_width": "1", "classes": "[]", "attributes": "[]"}
    return training_shard(rows, "train", notes | {"feature_dtype": vectors.NUMPY[stored]})


def our_loader(folder: Path, workers: int, units: str = "regions", **options: Any) -> Loader[Batch]:
    """The plainest recipe: rows as they are, nothing masked."""
    if units == "regions":
        document = recipes.load("uniter", "tiny").source | {
            "units": {"regions": {"max_regions": 100, "min_regions": 10, "min_score": 0.0}},
            "objectives": recipes.load("clip", "tiny").source["objectives"],
            "retrieval": {"objective": "contrastive"},
            "expects": None,  # those of uniter name its objectives
        }
        recipe = parse(document, "benchmark", "tiny", "benchmarks/loader.py", Shelf())
    else:
        recipe = recipes.load("clip", "tiny", {"units": {"pixels": {"size": 224, "min_side": 1.0}}})
    settings = Options(captions="one", **options)
    letters: Any = Letters()
    return Loader(folder, recipe, letters, seed=SEED, batch_size=BATCH, workers=workers, options=settings)


class Share(IterableDataset[Row]):
    """A peer's rows, dealt among DataLoader's workers."""

    def __init__(self, peer: Peer, folder: Path, start: int) -> None:
        self.peer, self.folder, self.start = peer, folder, start

    def __iter__(self) -> Iterator[Row]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        return self.peer.rows(self.folder, worker, workers, self.start)


def collate_rows(rows: list[Row]) -> Batch:
    """The same batch as ours, by the same code, from a peer's rows."""
    letters = Letters()
    examples = []
    for features, boxes, caption in rows:
        regions = Regions(features, seven(boxes, 640, 480), np.zeros(len(boxes), bool))
        examples.append(Example(b"", 0, letters.words(caption), regions))
    return collate(examples, 0)


def batches(name: str, folder: Path, workers: int, start: int) -> Iterator[Batch]:
    if name == OURS:
        loader = our_loader(folder, workers)
        loader.load_state_dict(loader.state_dict() | {"step": start // BATCH})
        return iter(loader)
    peer = next(peer for peer in (*PEERS, STREAMING) if peer.name == name)
    share = Share(peer, folder, start)
    return iter(DataLoader(share, BATCH, num_workers=workers, collate_fn=collate_rows, drop_last=True))


def measure(name: str, folder: Path, workers: int, rows: int) -> dict[str, float]:
    """In a process of its own: seconds to the first batch, rows/s and CPU seconds afterwards, resume, memory."""
    torch.set_num_threads(1)
    before = memory()
    began = time.perf_counter()
    source = batches(name, folder, workers, 0)
    next(source)
    first = time.perf_counter() - began
    warm = time.perf_counter() + (25.0 if name == OURS and workers else 0.0)  # until our spawned workers are up
    while time.perf_counter() < warm:
        next(source)
    steps = rows // BATCH - 2 if name != OURS else rows // BATCH * 2
    began, cpu, seen, peak, look = time.perf_counter(), cpu_seconds(), 0, memory(), time.perf_counter()
    for batch in itertools.islice(source, steps):
        seen += len(batch)
        assert batch.regions is not None
        assert batch.regions.features_BRD.shape[1:] == (REGIONS, WIDTH)
        if time.perf_counter() > look + 0.5:  # not each time: asking the system costs as much as ten rows
            peak, look = max(peak, memory()), time.perf_counter()
    seconds, used = time.perf_counter() - began, cpu_seconds() - cpu
    del source
    began = time.perf_counter()
    next(batches(name, folder, 0, rows // 2))
    resume = time.perf_counter() - began
    peak_mb = (peak - before) / 1e6
    return {"first": first, "rate": seen / seconds, "cpu": 1000 * used / seen, "resume": resume, "peak": peak_mb}


def cpu_seconds() -> float:
    """Of this process and its workers so far."""
    times = [p.cpu_times() for p in (psutil.Process(), *psutil.Process().children(recursive=True))]
    return float(sum(one.user + one.system for one in times))


def memory() -> int:
    """Bytes that only this process or one of its workers holds: not the records that a fork shares."""
    own = psutil.Process()
    return sum(process.memory_full_info().uss for process in (own, *own.children(recursive=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1600)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", nargs="+", help="names of formats, for a part of the table")
    parser.add_argument("--pixels", action="store_true")
    parser.add_argument(
        "--resume", type=int, metavar="ROWS", help="time to go on at half an epoch of so many tiny rows"
    )
    parser.add_argument("--shuffle", action="store_true")
    parser.add_argument("--streaming", type=Path, metavar="PYTHON", help="of an environment with mosaicml-streaming")
    parser.add_argument("--tmp", type=Path, help="folder for the files (default: the system's)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=arguments.tmp) as folder:
        if arguments.shuffle:
            shuffle_quality()
        elif arguments.resume:
            resume(Path(folder), arguments.resume)
        elif arguments.pixels:
            pixels(Path(folder), arguments.rows)
        else:
            regions(Path(folder), arguments.rows, arguments.workers, arguments.only, arguments.streaming)


def regions(folder: Path, rows: int, workers: list[int], only: list[str] | None, streaming: Path | None) -> None:
    records = make_records(rows)
    size = rows * REGIONS * WIDTH * 2
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "pyarrow", "numpy"))
    print(f"{rows} rows, {size / 1e9:.2f} GB of features; {versions}; memcpy {memcpy():.1f} GB/s")
    head = f"{'format':26}{'workers':>8}{'rows/s':>9}{'GB/s':>7}{'CPU s/1000':>12}{'first s':>9}{'resume s':>10}"
    print(f"{head}{'peak MB':>9}{'write MB/s':>12}{'MB':>7}{'rows per CPU s, pairloom = 1':>30}")
    writers: dict[str, Callable[[Path, Any], None]] = {OURS: write_ours, **{peer.name: peer.write for peer in PEERS}}
    if streaming:
        writers[STREAMING.name] = lambda path, _: elsewhere(streaming, "write", STREAMING.name, path, rows)
    ours: dict[int, float] = {}
    for name, write in writers.items():
        if only and name not in (OURS, *only):
            continue
        path = folder / name.split()[0]
        path.mkdir()
        began = time.perf_counter()
        in_child(write, path, records)
        written = rows * (REGIONS * WIDTH * 2 + 85_000) / (time.perf_counter() - began) / 1e6
        disk = sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e6
        for count in workers:
            if count and not all(peer.forks for peer in PEERS if peer.name == name):
                continue
            if streaming and name == STREAMING.name:
                found = elsewhere(streaming, "measure", name, path, rows, count)
            else:
                found = in_process(name, path, count, rows)
            ours.setdefault(count, found["cpu"])
            line = f"{name:26}{count:8}{found['rate']:9.0f}{found['rate'] * size / rows / 1e9:7.2f}{found['cpu']:12.2f}"
            line += f"{found['first']:9.2f}{found['resume']:10.2f}{found['peak']:9.0f}{written:12.0f}{disk:7.0f}"
            print(f"{line}{ours[count] / found['cpu']:30.2f}", flush=True)
        shutil.rmtree(path)  # the next one needs the room, on disk and in the page cache


def elsewhere(python: Path, *arguments: object) -> Any:
    from benchmarks.loader_elsewhere import asked  # it imports this module

    return asked(python, *arguments)


def in_child(write: Callable[[Path, Any], None], path: Path, records: Any) -> None:
    """Writes in a process of its own: what lance leaves running after it, readers that are forked would wait for."""
    process = multiprocessing.get_context("fork").Process(target=write, args=(path, records))
    process.start()
    process.join()
    assert process.exitcode == 0


def in_process(name: str, path: Path, workers: int, rows: int) -> dict[str, float]:
    # forked: imports are done, so each format starts alike
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        return pool.submit(measure, name, path, workers, rows).result()


def memcpy() -> float:
    """GB/s of copying 14 MB, a batch's features, out of 400 MB that no cache holds."""
    source, target = np.ones(400 << 20, np.uint8), np.ones(14 << 20, np.uint8)
    began = time.perf_counter()
    for start in range(0, len(source) - len(target), len(target)):
        np.copyto(target, source[start : start + len(target)])
    return (len(source) // len(target)) * len(target) / (time.perf_counter() - began) / 1e9


def pixels(folder: Path, rows: int) -> None:
    """Pictures through the loader, and the same decoding, cropping and normalising in a bare loop."""
    from systems.units import pixels as unit

    records = make_records(rows)
    write_ours(folder, records)
    loader = our_loader(folder, 0, units="pixels")
    settings = recipes.load("clip", "tiny", {"units": {"pixels": {"size": 224, "min_side": 1.0}}}).units.settings
    source, rng = iter(loader), np.random.default_rng(0)
    next(source)
    batch_B3SS = np.empty((BATCH, 3, 224, 224), np.float32)
    seconds = np.empty((rows // BATCH, 2))  # of the loader and the bare decoder, batch by batch in turn
    for pair in seconds:
        began = time.process_time()
        next(source)
        between = time.process_time()
        for place_3SS, record in zip(batch_B3SS, records[:BATCH], strict=True):
            place_3SS[...] = unit.decode(record["jpg"], settings, rng).values_3SS
        pair[:] = between - began, time.process_time() - between
    ours, bare = np.median(BATCH / seconds, axis=0)
    low, middle, high = np.quantile(seconds[:, 1] / seconds[:, 0], (0.25, 0.5, 0.75))
    print(f"pictures per CPU second, median of {len(seconds)} batches: loader {ours:.0f}, bare decoder {bare:.0f}; "
          f"quotient of pairs {middle:.3f} (quartiles {low:.3f} and {high:.3f})")  # fmt: skip
    print({name: round(value, 2) for name, value in loader.stats().items() if name.endswith("_s")})


def resume(folder: Path, rows: int, rows_a_shard: int = 10_000, rows_a_group: int = 360) -> None:
    """Seconds from nothing to the first batch after half an epoch. What grows with rows is the index, not the rows.

    One shard of tiny rows under many names, with as many rows in a row group as real shards have.
    """
    tiny = {"jpg": b"", "features": np.ones((1, 8), np.float16), "boxes": np.ones((1, 4), np.float32)}
    table = shard([tiny | {"captions": [f"a dog {number}"]} for number in range(rows_a_shard)], 0)
    writer = Writer.open(folder, Header("shards", SHARDS.version, "shards", 1, {}))
    writer.begin([])
    entry = write_shard(folder, "train-00000", table, table.nbytes * rows_a_group // rows_a_shard)
    write_index(folder, "train-00000", entry.sha256)
    for number in range(rows // rows_a_shard):
        name = f"train-{number:05d}"
        for file in ("{}.parquet".format, index.name_of) if number else ():
            (folder / file(name)).hardlink_to(folder / file("train-00000"))
        writer.record(replace(entry, name=name))
    writer.finish()
    for start in (0, rows // 2):
        began = time.perf_counter()
        loader = our_loader(folder, 0, window=8)
        opened = time.perf_counter() - began
        loader.load_state_dict(loader.state_dict() | {"step": start // BATCH})
        next(iter(loader))
        print(f"{rows:,} rows in {rows // rows_a_shard} shards, from row {start:,}: first batch after "
              f"{time.perf_counter() - began:.2f} s, of which opening {opened:.2f} s")  # fmt: skip


def shuffle_quality(groups: int = 2000, rows: int = 360) -> None:
    """How far apart rows of one row group come, and how many row groups a batch of 256 has, by window."""
    order_of = {window: Order(SEED, (rows,) * groups, window) for window in (1, 4, 8, 16, 64, WHOLE)}
    print(
        f"{groups} row groups of {rows} rows; distance: mean |position of row − position of its neighbour in the file|,"
    )
    print("as a share of a full permutation's, a third of all rows")
    print(f"{'window':>8}{'distance':>10}{'row groups in a batch of 256':>30}{'share of neighbours in a batch':>32}")
    for window, order in order_of.items():
        total = len(order)
        group, row = order.at_many(np.zeros(total, np.int64), np.arange(total))
        position = np.empty((groups, rows), np.int64)
        position[group, row] = np.arange(total)
        distance = np.abs(np.diff(position, axis=1)).mean() / (total / 3)
        batches_of = group[: total // 256 * 256].reshape(-1, 256)
        distinct = np.mean([len(np.unique(batch)) for batch in batches_of[:2000]])
        together = (np.diff(position // 256, axis=1) == 0).mean()
        print(f"{window or 'full':>8}{distance:10.4f}{distinct:30.1f}{together:32.5f}")


if __name__ == "__main__":
    main()

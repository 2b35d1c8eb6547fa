"""How time and memory of what one process does grow with the data, each part at three sizes, and what follows for more.

`python -m benchmarks.scale [PART …] [--sizes 10000 100000 1000000]`. Every measurement is a process of its own. Sizes
are rows, or shards where a part says so. Shards are names of one small file, so that disks hold millions of rows. An
exponent of 1 is linear: it is that of the last step, and time and memory are projected with it.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from benchmarks.scale_opening import cutting, opening
from benchmarks.scale_tables import (
    ROWS,
    Apart,
    MadeUp,
    entry_of,
    joined,
    linked,
    mined,
    name_again,
    pairs,
    read_bytes,
    sized,
    written,
)
from pairloom.store.folder import Header, open_folder, read_shard
from pairloom.store.writing import Writer
from pipeline.corpus import CorpusOnDisk
from pipeline.desk import Desk
from schemas.pairs import PAIRS

FAR = (4 * 10**8, 5 * 10**9)  # rows
OF_SHARDS = ("manifest", "nothing-due", "opening")  # parts whose sizes are shards
Work: TypeAlias = Callable[[], dict[str, float] | None]  # what is timed. It may tell more
JOINED = ("curate", "regions", "tags", "negatives")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--sizes", nargs="+", type=int, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--one", action="store_true", help="measure one part at one size in this process, as JSON")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measured(arguments.parts[0], arguments.sizes[0])))
        return
    for part in arguments.parts or PARTS:
        report(part, arguments.sizes)


def report(part: str, sizes: list[int]) -> None:
    print(f"\n{part}: {(PARTS[part].__doc__ or '').strip()}", flush=True)
    found = []
    for size in sizes:
        command = [sys.executable, "-m", "benchmarks.scale", "--one", part, "--sizes", str(size)]
        ran = subprocess.run(command, check=True, capture_output=True, text=True)
        found.append(json.loads(ran.stdout.splitlines()[-1]))
        of, known = found[-1], ("seconds", "cpu", "mb")
        more = "".join(f"  {key} {value:.2f}" for key, value in of.items() if key not in known)
        print(f"  {size:>13,}  {of['seconds']:9.2f} s  {of['cpu']:9.2f} s of CPU  {of['mb']:8.0f} MB{more}", flush=True)
    for key, unit in (("cpu", "s"), ("mb", "MB")):  # time alone says little on a machine that others use, too
        values = [max(each[key], 1e-3) for each in found]
        power = exponent(sizes, values)
        sized = [(rows, rows // (ROWS if part in OF_SHARDS else 1)) for rows in FAR]
        far = ", ".join(f"{rows:.0e} rows: {values[-1] * (n / sizes[-1]) ** power:,.1f} {unit}" for rows, n in sized)
        print(f"  {key:>7}: exponent {power:.2f} over the last step; projected {far}", flush=True)


def exponent(sizes: list[int], values: list[float]) -> float:
    """Of the last step, where what a process costs anyway weighs least."""
    if len(sizes) < 2:
        return 1.0
    return math.log(values[-1] / values[-2]) / math.log(sizes[-1] / sizes[-2])


def measured(part: str, size: int) -> dict[str, float]:
    """Seconds, those of CPU, and how far this process's own memory rose."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("SCALE_DIR")) as folder:
        work = PARTS[part](size, Path(folder))
        with watched() as rise:
            start, cpu = time.perf_counter(), time.process_time()
            more = work() or {}
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        return more | {"seconds": seconds, "cpu": cpu, "mb": rise()}


@contextmanager
def watched() -> Iterator[Callable[[], float]]:
    """MB by which this process's own memory rises in the block, without pages of files, which can go."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    before, seen, stop = anonymous_mb(), [0.0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            seen.append(anonymous_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    yield lambda: max(max(seen) - before, 0.0)
    stop.set()
    watcher.join()


def anonymous_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def plan(rows: int, folder: Path) -> Work:
    """the plan of stage `shards`, with what is read of every input shard"""
    from stages.shards import Config
    from stages.shards import plan as of_shards

    curate = linked(folder / "curate", pairs(), rows // ROWS)
    # the other tables: no file of them is looked at, and a row has 100 regions of 2,048 float16 there
    others = {name: replace(curate, shards=sized(curate, 400_000 * ROWS)) for name in JOINED[1:2]}
    others |= dict.fromkeys(JOINED[2:], curate)
    return lambda: print(len(of_shards(CorpusOnDisk({"curate": curate, **others}), Config())), "windows")


def shards(rows: int, folder: Path) -> Work:
    """all of stage `shards`; read: bytes of the inputs by their size; again: of what was written, to index it"""
    from pipeline import windows
    from pipeline.config import RunConfig
    from pipeline.executor import Options, run_stage
    from stages.shards import Config

    made = dict(zip(JOINED, joined(), strict=True))
    stored = [linked(folder / name, table, rows // ROWS) for name, table in made.items()]
    size = sum(entry.bytes for table in stored for entry in table.shards)
    config = Config(shard_bytes=size // rows * 3000)  # three input shards
    read = 0

    def counted(*arguments: Any) -> Any:
        nonlocal read
        before = read_bytes()
        table = read_shard(*arguments)
        read += read_bytes() - before
        return table

    def work() -> dict[str, float]:
        before = read_bytes()
        setattr(windows, "read_shard", counted)  # noqa: B010  # it is another module's name there
        run_stage("shards", config, folder, Options(RunConfig(cluster="inline"), plain=True))
        return {"read": read / size, "again": (read_bytes() - before - read) / size}

    return work


def manifest(shards: int, folder: Path) -> Work:
    """opening a table of so many shards, and asking for its rows"""
    writer = Writer.open(folder, Header("pairs", PAIRS.version, "curate", 1, {}))
    writer.begin([])
    writer.done = {entry.name: entry for entry in map(entry_of, range(shards))}
    writer.finish()
    return lambda: print(open_folder(folder).rows, "rows")


def nothing_due(shards: int, folder: Path) -> Work:
    """a stage with nothing to do, for so many shards of one input"""
    from pipeline.config import RunConfig
    from pipeline.executor import Options, run_stage
    from pipeline.planning import prepare
    from pipeline.stage import load
    from pipeline.task import Places

    stage = load("tags")
    config = stage.config_type()
    linked(folder / "regions", joined()[1], shards)
    linked(folder / "tags", joined()[2], 1)
    work = prepare(stage, config, Places.of(stage, config, folder), redo=True)
    (made,) = open_folder(folder / "tags").shards
    writers = work.open_writers()
    for writer in writers:
        writer.begin([])
    for task in work.tasks:
        name_again(folder / "tags", made.name, int(task.name))
        writers[0].done[task.name] = replace(made, name=task.name, fingerprint=task.fingerprint)
    for writer in writers:
        writer.finish()

    def again() -> None:
        done = run_stage("tags", config, folder, Options(RunConfig(cluster="inline"), plain=True))
        assert (done.made, done.shards) == (0, shards)

    return again


def facts(rows: int, folder: Path) -> Work:
    """what a worker of stage `curate` finds in its shards, by its default settings"""
    from stages.curate import Config
    from stages.curate.facts import Asked, facts_of

    tables = [MadeUp(1, folder).table(0)] * (rows // ROWS)
    facts_of(tables[0], argument=Asked(Config(), None))

    def work() -> None:
        for table in tables:
            facts_of(table, argument=Asked(Config(), None))

    return work


def curate(rows: int, folder: Path) -> Work:
    """what is put together of that in one process, by the default settings but for colours"""
    return deciding(rows, folder, {})


def repeats(rows: int, folder: Path) -> Work:
    """the same with captions of many images and images with many captions left out"""
    return deciding(rows, folder, {"max_repeats": 10, "max_image_captions": 10})


def deciding(rows: int, folder: Path, settings: dict[str, Any]) -> Work:
    from stages.curate import Config
    from stages.curate.deciding import decide
    from stages.curate.duplicates import near_kept
    from stages.curate.facts import facts_of
    from stages.curate.near_ones import near_ones

    near_ones(np.arange(1000, dtype=np.uint64), 4, folder)  # compiles
    near_kept(np.arange(100_000, dtype=np.uint64), 4)
    corpus = MadeUp(rows // ROWS, folder)
    corpus.gathered({}, facts_of, None)
    return lambda: decide(corpus, Config(max_colour_distance=None, **settings), folder)


def looks(rows: int, folder: Path) -> Work:
    """which images look alike, for stage `negatives`"""
    from stages.curate.duplicates import near_kept
    from stages.curate.near_ones import near_ones
    from stages.negatives import Config
    from stages.negatives.near import hashes_of, looks_like

    near_ones(np.arange(1000, dtype=np.uint64), 4, folder)  # compiles
    near_kept(np.arange(100_000, dtype=np.uint64), 4)
    corpus = MadeUp(rows // ROWS, folder, again=0)
    corpus.gathered({}, hashes_of, None)
    return lambda: print(len(looks_like(corpus, Config(near_colour_distance=None), folder)))


def negatives(rows: int, folder: Path) -> Work:
    """the index of stage `negatives`, a caption an image, in parts of a hundred thousand captions; workers: seconds"""
    from stages.negatives import Config
    from stages.negatives.building import write

    pool = Apart()
    desk = Desk("negatives", lambda: pool, folder / "gathered", folder / "room", "", plain=True)
    corpus, index = written(folder, rows // ROWS, desk), folder / "index"
    index.mkdir()

    def work() -> dict[str, float]:
        write(corpus, Config(near_distance=None), index, 100_000)
        return {"workers": pool.seconds}

    return work


def summary(rows: int, folder: Path) -> Work:
    """the metrics of stage `negatives`, 30 negatives a caption; workers: seconds"""
    from stages import negatives as stage

    pool = Apart()
    desk = Desk("negatives", lambda: pool, folder / "gathered", folder / "room", "", plain=True)
    corpus = CorpusOnDisk({"negatives": linked(folder / "negatives", mined(), rows // ROWS)}, desk)

    def work() -> dict[str, float]:
        stage.summary(corpus)
        return {"workers": pool.seconds}

    return work


PARTS: dict[str, Callable[[int, Path], Work]] = {
    "list": cutting,
    "opening": opening,
    "plan": plan,
    "shards": shards,
    "manifest": manifest,
    "nothing-due": nothing_due,
    "facts": facts,
    "curate": curate,
    "repeats": repeats,
    "looks": looks,
    "negatives": negatives,
    "summary": summary,
}

if __name__ == "__main__":
    main()

"""The index of stage `negatives` made in parts by workers: seconds, and the memory of the process that waits.

python -m benchmarks.negatives_parts [--captions 400000] [--part 50000] [--times 3] [--workers 1 2]

Made-up captions of eight words, one an image. `inline` is this process alone. Each run reads the captions again, and
the files of all are compared. Printed is the least of some builds. The peer is `inline`.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.scale import watched
from benchmarks.scale_tables import ROWS, written
from pipeline.cluster import open_pool
from pipeline.config import RunConfig
from pipeline.corpus import CorpusOnDisk
from pipeline.desk import Desk
from pipeline.pool import Pool
from stages.negatives import Config
from stages.negatives.building import write


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=int, default=400_000)
    parser.add_argument("--part", type=int, default=50_000, help="captions of a part")
    parser.add_argument("--times", type=int, default=3, help="of which the least is printed")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        few, corpus = written(folder / "few", 4, None), written(folder / "all", arguments.captions // ROWS, None)
        runs = {"inline": RunConfig(cluster="inline")}
        runs |= {f"{many} workers": RunConfig(cluster="local", workers=many) for many in arguments.workers}
        sums = set()
        for title, run in runs.items():
            with open_pool(run, 1000, "negatives", lambda: None) as pool:  # type: ignore[arg-type, return-value]
                for _ in range(4):
                    with tempfile.TemporaryDirectory(dir=folder) as warm:  # imports and compiles
                        build(few, Path(warm), pool, 1000)
                found = []
                for _ in range(arguments.times):
                    with tempfile.TemporaryDirectory(dir=folder) as made:
                        with watched() as rise:
                            start, before = time.perf_counter(), cpu_s()
                            build(corpus, Path(made), pool, arguments.part)
                            found.append((time.perf_counter() - start, cpu_s() - before, rise()))
                        sums.add(sum_of(Path(made)))
            seconds, cpu, risen = zip(*found, strict=True)
            took = f"{min(seconds):6.1f} s, {min(cpu):6.1f} s of CPU of all processes"
            print(f"{title:>10}: {took}, this one {max(risen):4.0f} MB", flush=True)
    assert len(sums) == 1, "the files depend on who made them"


def cpu_s() -> float:
    """Of this process and those below it so far."""
    every = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return float(sum(times.user + times.system for times in (one.cpu_times() for one in every)))


def build(corpus: CorpusOnDisk, folder: Path, pool: Pool, part: int) -> None:
    desk = Desk("negatives", lambda: pool, folder / "gathered", folder / "room", "", plain=True)
    (folder / "index").mkdir()
    write(CorpusOnDisk(corpus.inputs, desk), Config(near_distance=None), folder / "index", part)


def sum_of(folder: Path) -> str:
    """Of all files of the index."""
    found = hashlib.sha256()
    for file in sorted((folder / "index").rglob("*")):
        if file.is_file():
            found.update(str(file.relative_to(folder)).encode())
            found.update(hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()


if __name__ == "__main__":
    main()

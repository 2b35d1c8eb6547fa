"""`pairloom diff` beside DuckDB's full join of the same Parquet files: processor time and peak memory, same counts.

`python -m benchmarks.diff --rows 1000000`: two lists in shards, one row in 100 changed, one in 100 on each side alone.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from pairloom.store.folder import Header
from pairloom.store.writing import Writer, write_shard
from schemas.urls import URLS

SHARDS = 20
SQL = """
SELECT count(*) FILTER (a.url IS NOT NULL AND b.url IS NOT NULL
                        AND (a.captions IS DISTINCT FROM b.captions OR a.source IS DISTINCT FROM b.source)),
       count(*) FILTER (b.url IS NULL), count(*) FILTER (a.url IS NULL)
FROM '{}/*.parquet' a FULL JOIN '{}/*.parquet' b ON a.url = b.url
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--run", choices=("pairloom", "duckdb"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        alone(arguments.run, arguments.folder)
        return
    with tempfile.TemporaryDirectory() as name:
        for side, removed in (("a", 0), ("b", 1)):
            write(Path(name) / side, arguments.rows, removed)
        for who in ("duckdb", "pairloom"):
            command = [sys.executable, "-m", "benchmarks.diff", "--run", who, "--folder", name]
            print(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip(), flush=True)


def write(folder: Path, rows: int, removed: int) -> None:
    """A list. `removed` of every 100 rows is left out, and in side b one of every 100 has another caption."""
    writer = Writer.open(folder, Header(URLS.name, URLS.version, "sample", 1, {}))
    writer.begin([])
    for shard, numbers in enumerate(np.array_split(np.arange(rows), SHARDS)):
        kept = [n for n in numbers.tolist() if n % 100 != removed]
        captions = [
            [{"text": f"a picture of thing {n}{' again' if removed and n % 100 == 50 else ''}", "lang": "en"}]
            for n in kept
        ]
        table = URLS.table(
            url=[f"https://example.org/pictures/{n}.jpg" for n in kept],
            captions=captions,
            source=["web"] * len(kept),
            extra=[[]] * len(kept),
        )
        writer.record(write_shard(folder, f"{shard:05d}", table))
    writer.finish()


def alone(who: str, folder: Path) -> None:
    """One of the two in a process of its own."""
    if who == "duckdb":
        import duckdb

        connection = duckdb.connect()
        start = time.process_time()
        found = connection.execute(SQL.format(folder / "a", folder / "b")).fetchone()
    else:
        from inspection.diff import diff
        from pipeline.stage import flow

        stages = flow()
        start = time.process_time()
        table = diff(folder / "a", folder / "b", stages)["tables"][0]
        found = (table["changed"], table["only_a"], table["only_b"])
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{who}: changed, only in a, only in b {found}; {seconds:.2f} CPU s, peak {peak:.0f} MB")


if __name__ == "__main__":
    main()

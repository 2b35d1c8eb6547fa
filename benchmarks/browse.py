"""How long pages of `pairloom browse` take over a table of many rows, and how much memory the server holds.

`python -m benchmarks.browse --rows 50000000`: one shard of 500,000 rows, linked under as many names as needed. Each
page is asked for twice. The first time counts. Beside it DuckDB counts the rows that a filter finds, in one query.
Captions have some 60 characters, of words as frequent as Zipf says. One in 500,000 has the rare word.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil

from pairloom.store.folder import Header
from pairloom.store.writing import Writer, write_shard
from schemas.pairs import PAIRS

PER_SHARD = 500_000
TOKEN = "token"
PAGES = {
    "the overview": "",
    "the first rows": "pictures",
    "rows far in": "pictures?page={far}",
    "a filter that many rows pass": "pictures?words=thing+7",
    "a filter that few rows pass": "pictures?where=width+%3D+1001",
    "a rare word in captions": "pictures?words=rare-BIRD",
    "a row by its url": "find?q=https%3A%2F%2Fexample.org%2F499998.jpg",
    "what no url is": "find?q=nowhere/1.jpg",
    "one row": "row?t=curate&shard={last}&row=400000",
}
SCANS = {  # fields of the form, and what DuckDB counts for it
    "a filter that few rows pass": ({"where": "width = 1001"}, "width = 1001"),
    "a rare word in captions": ({"words": "rare-BIRD"}, "contains(lower(captions[1].text), 'rare-bird')"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        shards = max(1, arguments.rows // PER_SHARD)
        write(root / "curate", shards)
        look(root, shards)


def write(folder: Path, shards: int) -> None:
    """A table of pairs with small pictures, all shards with the same rows."""
    writer = Writer.open(folder, Header(PAIRS.name, PAIRS.version, "curate", 1, {}))
    writer.begin([])
    numbers = np.arange(PER_SHARD).tolist()
    ids = [hashlib.sha256(str(n).encode()).digest() for n in numbers]
    table = PAIRS.table(
        image_id=[digest[:16] for digest in ids], image=[b"\xff\xd8\xff\xd9"] * PER_SHARD, format=["jpeg"] * PER_SHARD,
        width=[1001 if n == 499_999 else 640 for n in numbers], height=[480] * PER_SHARD,
        original_width=[640] * PER_SHARD, original_height=[480] * PER_SHARD,
        url=[f"https://example.org/{n}.jpg" for n in numbers], sha256=ids, phash=numbers,
        captions=[[{"text": text, "original": text, "lang": "en"}] for text in texts()],
        extra=[[]] * PER_SHARD,
    )  # fmt: skip
    entry = write_shard(folder, "00000", table)
    for number in range(shards):
        name = f"{number:05d}"
        if number:
            os.link(folder / "00000.parquet", folder / f"{name}.parquet")
        writer.record(replace(entry, name=name))
    writer.finish()


def texts() -> list[str]:
    """A caption a row: `a picture of thing <row>` and eight words."""
    random, known = np.random.default_rng(0), 50_000
    chances = 1 / np.arange(1, known + 1)
    words = np.array([np.base_repr(1000 + n, 36).lower() for n in range(known)], dtype=object)
    drawn = words[random.choice(known, (PER_SHARD, 8), p=chances / chances.sum())]
    made = [f"a picture of thing {n} {' '.join(row)}" for n, row in enumerate(drawn.tolist())]
    made[321_321 % PER_SHARD] += " a Rare-Bird"
    return made


def look(root: Path, shards: int) -> None:
    from starlette.testclient import TestClient

    from inspection.browse.data import connect, open_data
    from inspection.browse.scan import Scan
    from inspection.browse.selection import Selection
    from inspection.browse.server import application
    from pipeline.curating import CurateStage
    from pipeline.stage import flow

    process = psutil.Process()
    before = process.memory_info().rss
    served = application([root], flow(), CurateStage(), TOKEN)
    site = TestClient(served, base_url="http://127.0.0.1:1")
    print(f"{shards * PER_SHARD:,} rows in {shards} shards; {before >> 20} MB before")
    for title, path in PAGES.items():
        start = time.perf_counter()
        answer = site.get(f"/{TOKEN}/" + path.format(far=(shards * PER_SHARD - 1000) // 24, last=f"{shards - 1:05d}"))
        assert answer.status_code == 200, answer.text
        print(f"{title}: {time.perf_counter() - start:.2f} s, {process.memory_info().rss >> 20} MB", flush=True)
    served.close()
    data = open_data(root, flow(), connect([root]))
    table = data.table("curate")
    for title, (form, condition) in SCANS.items():
        wall, start = time.perf_counter(), time.process_time()
        scan = Scan(data, table, Selection.read(form).condition(table.every_column, {}), "")
        scan.wait(3600)
        spent = f"{time.process_time() - start:.1f} CPU s, {time.perf_counter() - wall:.1f} s"
        print(f"{title}, over all rows: {spent}, {scan.count} found, {process.memory_info().rss >> 20} MB", flush=True)
        duckdb_count(root, condition)


def duckdb_count(root: Path, condition: str) -> None:
    import duckdb

    wall, start = time.perf_counter(), time.process_time()
    sql = f"SELECT count(*) FROM '{root}/curate/*.parquet' WHERE {condition}"
    found = duckdb.connect().execute(sql).fetchone()
    spent = f"{time.process_time() - start:.1f} CPU s, {time.perf_counter() - wall:.1f} s"
    print(f"DuckDB's count of the same: {spent}, {found}", flush=True)


if __name__ == "__main__":
    main()

"""Tables of any size for benchmarks/scale.py: names of one small file, or shards made up when they are read."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pairloom.store.entries import Shards
from pairloom.store.folder import Entry, Header, open_folder
from pairloom.store.names import shard_name
from pairloom.store.writing import Writer, write_shard
from schemas.pairs import PAIRS

ROWS = 1000  # of a shard
LINKS = 50_000  # names of one file


def entry_of(number: int) -> Entry:
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    return Entry(shard_name(number), ROWS, 10**8, digest, digest[::-1], ROWS, {})


class MadeUp:
    """Downloaded pairs of random pictures; a tenth of the captions come often, one image of a hundred comes again."""

    def __init__(self, shards: int, again: int = 10) -> None:
        self.again = again  # images of each shard that every shard has
        self.names = [shard_name(number) for number in range(shards)]

    def tables(self, stage: str, columns: Sequence[str], shards: Any = None) -> Iterator[tuple[str, Any]]:
        for number, name in enumerate(self.names):
            if shards is None or name in shards:
                yield name, self.table(number).select(list(columns))

    def hashes(self, stage: str) -> dict[str, str]:
        return {name: name for name in self.names}

    def sizes(self, stage: str) -> dict[str, int]:
        return dict.fromkeys(self.names, 0)

    def table(self, number: int) -> Any:

        rng = np.random.default_rng(number)
        ids = rng.bytes(16 * ROWS)
        known = np.random.default_rng(0).bytes(16 * ROWS)
        listed = [(known if row < self.again else ids)[16 * row : 16 * row + 16] for row in range(ROWS)]
        words = [f"word{one}" for one in rng.integers(0, 50_000, ROWS * 8)]
        texts = [" ".join(words[8 * row : 8 * row + 8]) if row % 10 else f"a photo of {row}" for row in range(ROWS)]
        captions = [[{"text": text, "original": text, "lang": "en"}] for text in texts]
        phash = pa.array([int.from_bytes(one[:8], "little") for one in listed], pa.uint64())
        table = pairs()
        for key, values in (("image_id", listed), ("captions", captions), ("phash", phash)):
            field = table.schema.field(key)
            column = values if key == "phash" else pa.array(values, field.type)
            table = table.set_column(table.column_names.index(key), field, column)
        return table


def joined() -> list[Any]:
    """A shard of each table that is joined, of about 9 KB a row."""

    from tests.stages.test_shards import tables

    curate, regions, *rest = tables(list(range(ROWS)))
    blob = pa.array([np.zeros(2048, "<f2").tobytes()] * ROWS, pa.large_binary())
    curate = curate.set_column(curate.column_names.index("image"), curate.schema.field("image"), blob)
    features = regions.set_column(regions.column_names.index("features"), regions.schema.field("features"), blob)
    return [curate, features.replace_schema_metadata(regions.schema.metadata | {b"feature_width": b"2048"}), *rest]


def read_bytes() -> int:
    """What this process has asked the system for, from the disk or its cache."""
    return int(Path("/proc/self/io").read_text().split()[1])


def pairs() -> Any:
    """A shard of pairs with pictures of a few bytes."""

    ids = np.random.default_rng(0).bytes(16 * ROWS)
    one = [640] * ROWS
    return PAIRS.table(
        image_id=[ids[16 * row : 16 * row + 16] for row in range(ROWS)], image=[b"x" * 64] * ROWS, width=one,
        height=one, format=["jpeg"] * ROWS, original_width=one, original_height=one, url=["u"] * ROWS,
        sha256=[bytes(32)] * ROWS, phash=one, extra=[[]] * ROWS,
        captions=[[{"text": "a dog", "original": "a dog", "lang": "en"}]] * ROWS,
    )  # fmt: skip


def linked(folder: Path, table: Any, shards: int) -> Any:
    """A finished table of so many shards, all of them the same file."""
    writer = Writer.open(folder, Header("pairs", PAIRS.version, "curate", 1, {}))
    writer.begin([])
    entry = write_shard(folder, shard_name(0), table)
    for number in range(shards):
        name = shard_name(number)
        name_again(folder, shard_name(0), number)
        writer.done[name] = replace(entry, name=name, fingerprint=entry.sha256, rows_in=entry.rows)
    writer.finish()
    return open_folder(folder)


def name_again(folder: Path, first: str, number: int) -> None:
    """Give a shard a further name; a file has 65,000 of them at most."""
    base = shard_name(number // LINKS * LINKS)
    if number % LINKS == 0 and number:
        shutil.copyfile(folder / f"{first}.parquet", folder / f"{base}.parquet")
    elif number:
        os.link(folder / f"{base}.parquet", folder / f"{shard_name(number)}.parquet")


def sized(folder: Any, size: int) -> Any:
    return Shards([replace(entry, bytes=size) for entry in folder.shards])

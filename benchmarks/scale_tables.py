"""Tables of any size for benchmarks/scale.py: names of one small file, or shards made up when they are read."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pairloom.store.entries import Shards
from pairloom.store.folder import Entry, Header, open_folder
from pairloom.store.names import shard_name
from pairloom.store.writing import Writer, write_shard
from schemas.pairs import PAIRS
from stages.negatives.parts import write_table

ROWS = 1000  # of a shard
LINKS = 50_000  # names of one file


def entry_of(number: int) -> Entry:
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    return Entry(shard_name(number), ROWS, 10**8, digest, digest[::-1], ROWS, {})


class MadeUp:
    """Downloaded pairs of random pictures. A tenth of the captions come often, one image of a hundred comes again.

    What workers would gather of a shard is drawn, too, without its texts, so that the rest can be measured by itself.
    """

    def __init__(self, shards: int, folder: Path, again: int = 10) -> None:
        self.again = again  # images of each shard that every shard has
        self.folder = folder
        self.names = [shard_name(number) for number in range(shards)]
        self.known = np.random.default_rng(shards + 1).bytes(16 * again)

    def tables(self, stage: str, columns: Sequence[str], shards: Any = None) -> Iterator[tuple[str, Any]]:
        for number, name in enumerate(self.names):
            if shards is None or name in shards:
                yield name, self.table(number).select(list(columns))

    def hashes(self, stage: str) -> dict[str, str]:
        return {name: name for name in self.names}

    def sizes(self, stage: str) -> dict[str, int]:
        return dict.fromkeys(self.names, 0)

    def gathered(
        self, inputs: Mapping[str, Sequence[str]], function: Any, argument: Any, shards: Any = None
    ) -> dict[str, Path]:
        """Drawn: of the facts of curate, and of the hashes of negatives."""
        folder = self.folder / function.__name__
        folder.mkdir(exist_ok=True)
        found = {name: folder / name for name in self.names}
        for number, path in enumerate(found.values()):
            if not path.exists():
                write_table({"facts_of": self.facts, "hashes_of": self.looks}[function.__name__](number), path)
        return found

    def answers(self, inputs: Mapping[str, Sequence[str]], function: Any, arguments: Any) -> dict[str, Path]:
        assert not arguments, "nothing is handed over in a corpus whose shards have no image twice"
        return {}

    def grouped(self, stage: str, columns: Sequence[str], function: Any, argument: Any) -> Iterator[Any]:
        raise NotImplementedError

    def each(self, what: str, function: Any, arguments: Sequence[Any]) -> list[Any]:
        raise NotImplementedError

    def folders(self, what: str, function: Any, arguments: Any, into: Path | None = None) -> dict[str, Path]:
        raise NotImplementedError

    def ids(self, number: int) -> Any:
        """(bytes, ROWS ids of 16 bytes; the first eight of each as its hash)."""
        own = np.random.default_rng(number).bytes(16 * (ROWS - self.again))
        raw = self.known + own
        return raw, np.frombuffer(raw, "<u8")[::2]

    def looks(self, number: int) -> Any:
        raw, phash = self.ids(number)
        ids = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), ROWS, [None, pa.py_buffer(raw)])
        return pa.table({"image_id": ids, "phash": phash, "pictured": np.ones(ROWS, np.bool_)})

    def facts(self, number: int) -> Any:
        """As curate's workers find them, of a caption an image."""
        from stages.curate.facts import SCHEMA

        rng, ids = np.random.default_rng(number), self.looks(number)
        texts = np.where(np.arange(ROWS) % 10, rng.integers(0, 2**63, ROWS), np.arange(ROWS)).astype(np.uint64)
        one = pa.ListArray.from_arrays(pa.array(np.arange(ROWS + 1, dtype=np.int32)), pa.array(texts))
        true, zeros = pa.array(np.ones(ROWS, np.bool_)), pa.array(np.zeros(ROWS, np.int32))
        columns = {"occurrence": zeros, "passes": true, "num_captions": pa.array(np.ones(ROWS, np.int32))}
        columns |= {"excluded": pa.array(np.zeros(ROWS, np.bool_)), "score": zeros.cast(pa.float32())}
        columns |= {name: ids[name].combine_chunks() for name in ids.column_names} | {"key": ids["image_id"]}
        starts = pa.array(np.zeros(ROWS + 1, np.int32))
        columns["similarity"] = pa.ListArray.from_arrays(starts, zeros.cast(pa.float32()))
        return pa.table({**columns, **dict.fromkeys(("texts", "captions", "passing"), one)}).select(SCHEMA.names)

    def table(self, number: int) -> Any:
        """A shard of pairs, of which the facts are drawn otherwise."""
        rng = np.random.default_rng(number)
        raw, phash = self.ids(number)
        listed = [raw[16 * row : 16 * row + 16] for row in range(ROWS)]
        words = [f"word{one}" for one in rng.integers(0, 50_000, ROWS * 8)]
        texts = [" ".join(words[8 * row : 8 * row + 8]) if row % 10 else f"a photo of {row}" for row in range(ROWS)]
        captions = [[{"text": text, "original": text, "lang": "en"}] for text in texts]
        table = pairs()
        for key, values in (("image_id", listed), ("captions", captions), ("phash", phash)):
            field = table.schema.field(key)
            place = table.column_names.index(key)
            table = table.set_column(place, field, pa.array(values, field.type))
        return table


class Apart:
    """A pool of one process beside this one, which notes for how long it was at work."""

    def __init__(self) -> None:
        self.file_s, self.seconds = 0.0, 0.0
        self._process = ProcessPoolExecutor(1, get_context("spawn"))
        self._process.submit(warm).result()

    def workers(self) -> int:
        return 1

    def run(
        self, function: Any, tasks: Any, ready: Any = None, alone: bool = False, heard: Any = None
    ) -> Iterator[Any]:
        while tasks:
            task, start = tasks.popleft(), time.perf_counter()
            result = self._process.submit(function, task).result()
            self.seconds += time.perf_counter() - start
            yield task, result


def warm() -> None:
    """Import and compile what workers need."""
    import tempfile

    from pipeline.desk import here
    from stages.negatives import Config
    from stages.negatives.building import write

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(written(folder, 2, here(folder)), Config(), folder)


def written(folder: Path, shards: int, desk: Any) -> Any:
    """A corpus on disk of so many shards of curate, a caption an image."""
    from pipeline.corpus import CorpusOnDisk

    writer = Writer.open(folder / "curate", Header("pairs", PAIRS.version, "curate", 1, {}))
    writer.begin([])
    drawn = MadeUp(shards, folder, again=0)
    entries = [write_shard(folder / "curate", name, drawn.table(number)) for number, name in enumerate(drawn.names)]
    writer.done = {entry.name: entry for entry in entries}
    writer.finish()
    return CorpusOnDisk({"curate": open_folder(folder / "curate")}, desk)


def joined() -> list[Any]:
    """A shard of each table that is joined, of about 9 KB a row."""

    from tests.stages.test_shards import tables

    curate, regions, *rest = tables(list(range(ROWS)))
    blob = pa.array([np.zeros(2048, "<f2").tobytes()] * ROWS, pa.large_binary())
    curate = curate.set_column(curate.column_names.index("image"), curate.schema.field("image"), blob)
    features = regions.set_column(regions.column_names.index("features"), regions.schema.field("features"), blob)
    return [curate, features.replace_schema_metadata(regions.schema.metadata | {b"feature_width": b"2048"}), *rest]


def mined() -> Any:
    """A shard of negatives, 30 a caption."""
    from schemas.negatives import NEGATIVES

    rng = np.random.default_rng(0)
    ids = [rng.bytes(16) for _ in range(5000)]
    one = [{"image_id": ids[int(at)], "caption_index": 0, "text": f"a photo of {at}", "similarity": 0.25}
           for at in rng.integers(0, 5000, 30 * ROWS)]  # fmt: skip
    lists = [[one[30 * row : 30 * row + 30]] for row in range(ROWS)]
    return NEGATIVES.table(image_id=[rng.bytes(16) for _ in range(ROWS)], negatives=lists, short=[[0]] * ROWS)


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
    """Give a shard a further name. A file has 65,000 of them at most."""
    base = shard_name(number // LINKS * LINKS)
    if number % LINKS == 0 and number:
        shutil.copyfile(folder / f"{first}.parquet", folder / f"{base}.parquet")
    elif number:
        os.link(folder / f"{base}.parquet", folder / f"{shard_name(number)}.parquet")


def sized(folder: Any, size: int) -> Any:
    return Shards([replace(entry, bytes=size) for entry in folder.shards])

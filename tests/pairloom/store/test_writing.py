"""Shards on disk: what is written can be read by others, damage is noticed, half a shard is never seen."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairloom.errors import SchemaError, StoreError
from pairloom.store.folder import ASIDE, JOURNAL, MANIFEST, Header, open_folder, read_shard
from pairloom.store.writing import Writer, write_shard
from pairloom.table import Column, Table, blob
from tests.pipeline.helpers import table_of

HEADER = Header("urls", 1, "sample", 1, {})
BLOBS = Table(
    "blobs", 1, "a row", (Column("n", pa.uint8(), "rows"), Column("features", blob("<f2", "n", "width"), "numbers"))
)


def test_a_shard_reads_back_the_same_through_pyarrow_alone(tmp_path: Path) -> None:
    table = table_of(["a", "b"])
    write_shard(tmp_path, "00000", table)
    assert pq.read_table(tmp_path / "00000.parquet").equals(table)


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.lists(st.integers(0, 0xFFFF), max_size=8), max_size=5))
def test_blobs_unpack_to_what_was_packed(rows: list[list[int]], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("blobs")
    arrays = [np.array(row, dtype="<u2").view("<f2") for row in rows]  # any bits, NaN and infinities too
    table = BLOBS.table(n=[len(row) for row in rows], features=arrays, metadata={"width": "1"})
    write_shard(folder, "00000", table)
    read = read_shard(folder / "00000.parquet")
    kind = BLOBS.column("features").type
    assert not isinstance(kind, pa.DataType)
    for stored, wanted in zip(kind.unpack(read["features"]), arrays, strict=True):
        np.testing.assert_array_equal(stored, wanted)


def test_blobs_are_plain_and_row_groups_are_sized_by_bytes(tmp_path: Path) -> None:
    big = np.zeros(8 << 20, dtype="<f2")  # 16 MB a row
    write_shard(tmp_path, "00000", BLOBS.table(n=[1, 1, 1], features=[big, big, big]))
    file = pq.ParquetFile(tmp_path / "00000.parquet").metadata
    assert file.num_row_groups == 3
    column = file.row_group(0).column(1)
    assert (column.compression, "DICTIONARY" in " ".join(column.encodings)) == ("UNCOMPRESSED", False)


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_never_read_as_good_data(
    place: float, bit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("flip")
    table = BLOBS.table(n=[4], features=[np.arange(4000, dtype="<f2")])
    write_shard(folder, "00000", table)
    file = folder / "00000.parquet"
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    file.write_bytes(content)
    # A bit of the footer may mean nothing for the data (the writer's name, a statistic). Lint finds that by SHA-256.
    with contextlib.suppress(StoreError):
        read = read_shard(file)
        assert read.equals(table) or read.schema != table.schema


def test_a_full_disk_is_named_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        write_shard(tmp_path, "00000", table_of(["a"]))
    assert list(tmp_path.iterdir()) == []


def test_a_reader_sees_finished_shards_of_a_table_in_work_but_not_as_complete(tmp_path: Path) -> None:
    writer = Writer.open(tmp_path, HEADER)
    writer.begin([])
    writer.record(write_shard(tmp_path, "00000", table_of(["a"])))
    write_shard(tmp_path, "00001", table_of(["b"]))  # renamed, but the crash came before its line
    folder = open_folder(tmp_path)
    assert ([entry.name for entry in folder.shards], folder.complete) == (["00000"], False)
    writer.finish()
    assert open_folder(tmp_path).complete
    assert not (tmp_path / "00001.parquet").exists()


def test_a_line_cut_off_by_a_crash_is_ignored(tmp_path: Path) -> None:
    writer = Writer.open(tmp_path, HEADER)
    writer.begin([])
    writer.record(write_shard(tmp_path, "00000", table_of(["a"])))
    with (tmp_path / JOURNAL).open("a") as file:
        file.write('{"name": "0000')
    assert len(open_folder(tmp_path).shards) == 1


def test_the_manifest_does_not_depend_on_who_finished_first(tmp_path: Path) -> None:
    texts = []
    for order in (["00000", "00001"], ["00001", "00000"]):
        folder = tmp_path / "".join(order)
        writer = Writer.open(folder, HEADER)
        writer.begin([])
        for name in order:
            writer.record(write_shard(folder, name, table_of([name])))
        writer.finish()
        texts.append((folder / MANIFEST).read_text())
    assert texts[0] == texts[1]
    assert len(json.loads(texts[0])["shards"]) == 2


def test_a_wrong_column_is_refused_with_its_table(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="unknown columns"):
        BLOBS.table(n=[1], features=[np.zeros(1)], more=[1])
    with pytest.raises(SchemaError, match="null in row 1"):
        BLOBS.table(n=[1, None], features=[b"", b""])


def test_what_a_killed_worker_left_goes_when_the_table_is_finished(tmp_path: Path) -> None:
    writer = Writer.open(tmp_path, HEADER)
    writer.begin([])
    (tmp_path / ".00000.parquet.0123.tmp").write_bytes(b"half a shard")
    writer.finish()
    assert [file.name for file in tmp_path.iterdir()] == [ASIDE]

"""The counts of a folder are those of its indices, whatever languages its captions are in. Damaged ones are none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspection.lint import lint
from pairloom.loader.rows import Rows, open_rows
from pairloom.loader.source import LocalSource
from pairloom.store import counts, index
from pairloom.store.folder import Entry, open_folder
from pairloom.store.writing import Writer, write_counts
from pipeline.stage import flow
from tests.pairloom.loader.loading import write_folder

LANGUAGES = ("en", "de", "", "zh")
CAPTIONS = st.lists(st.lists(st.sampled_from([*LANGUAGES, None]), max_size=4), min_size=1, max_size=12)
SHARDS = st.lists(CAPTIONS, min_size=1, max_size=4)


def index_of(images: list[list[str | None]], group_rows: int) -> index.Index:
    column = pa.chunked_array([pa.array([[{"lang": lang} for lang in own] for own in images],
                                        pa.list_(pa.struct([("lang", pa.string())])))])  # fmt: skip
    codes, names = index._languages(column, len(images))
    groups = pa.array(np.arange(len(images), dtype=np.int32) // group_rows)
    table = pa.table({"row_group": groups, "captions": codes})

    facts = {"languages": names, "chunks": [{}] * (-(-len(images) // group_rows))}
    return index.Index(table.replace_schema_metadata({"pairloom-index": json.dumps(facts)}))


@given(shards=SHARDS, group_rows=st.integers(1, 5), asked=st.sets(st.sampled_from(LANGUAGES)), seed=st.integers(0, 99))
@settings(max_examples=80, deadline=None)
def test_counts_are_those_of_the_indices(
    shards: list[list[list[str | None]]], group_rows: int, asked: set[str], seed: int
) -> None:
    built = [index_of(images, group_rows) for images in shards]
    entries = [Entry(f"train-{number:05d}", len(images), 1, f"{number:064x}") for number, images in enumerate(shards)]
    identities = counts._identities(entries)
    packed = counts.parsed(counts._packed(identities, [counts.counted(one) for one in built]))
    assert packed is not None
    order = np.random.default_rng(seed).permutation(len(shards))[: 1 + seed % len(shards)].tolist()
    found = packed.of([entries[place] for place in order], sorted(asked))
    assert found is not None
    expected = []
    for number, place in enumerate(order):
        for start in range(0, len(shards[place]), group_rows):
            group = shards[place][start : start + group_rows]
            wanted = [[lang for lang in own if not asked or lang is None or lang in asked] for own in group]
            expected.append([number, sum(map(len, wanted)), sum(bool(own) for own in wanted)])
    assert found.T.tolist() == expected
    assert packed.of([replace(entries[0], sha256="f" * 64)], ()) is None


def test_a_folder_has_counts_and_damaged_ones_are_made_again(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "shards", (9, 8, 6))
    opened = open_folder(folder)
    file = folder / counts.NAME
    write_counts(folder, opened.shards)
    whole = file.read_bytes()
    rows = open_rows(folder, "train", ("captions", "image_id"), ("en",))
    by_index = rows._indexed_counts()
    found = counts.read(folder)
    assert found is not None
    counted = found.of(rows.shards, ("en",))
    assert counted is not None
    assert np.array_equal(counted, by_index)
    for place in range(0, len(whole), 7):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        assert counts.read(folder) is None
    file.write_bytes(whole[:-9])
    assert open_rows(folder, "train", ("captions", "image_id"), ("en",)).sizes() == rows.sizes()
    Writer.open(folder, opened.header).finish()
    assert file.read_bytes() == whole


def test_opening_a_folder_with_counts_reads_the_first_index_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "shards", (9, 8, 6))
    write_counts(folder, open_folder(folder).shards)
    read: list[str] = []
    original = LocalSource.index

    def watched(self: LocalSource, entry: Entry) -> index.Index:
        read.append(entry.name)
        return original(self, entry)

    monkeypatch.setattr(LocalSource, "index", watched)
    rows: Rows = open_rows(folder, "train", ("captions", "image_id"), ("en",))
    assert rows.sizes()
    assert set(read) == {"train-00000"}


def test_counts_are_no_leftover_and_follow_a_grown_folder(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "shards", (9, 8, 6))
    shards = open_folder(folder).shards
    write_counts(folder, shards[:2])
    read: list[Path] = []
    original = index.read

    def watched(path: Path, sha256: str) -> index.Index | None:
        read.append(path)
        return original(path, sha256)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "read", watched)
        write_counts(folder, shards)
    assert [path.name for path in read] == [".train-00002.index"]
    assert "leftover" not in {problem.check for problem in lint(folder, flow())}

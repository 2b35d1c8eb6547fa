"""Folders of many shards: what is worked out of all of them once is kept, and no more of them is read than a sample."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from pairloom.loader import Loader, Options
from pairloom.loader.rows import KEPT_FROM, open_rows
from pairloom.loader.texts import sampled
from pairloom.store import index
from pairloom.store.folder import MANIFEST, manifest_json, open_folder
from tests.pairloom.loader.loading import recipe, write_folder
from tests.pairloom.loader.test_damage import flip

SHARDS = KEPT_FROM + 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One shard of 9 images under many names."""
    made = write_folder(tmp_path / "data" / "shards", (9,))
    opened = open_folder(made)
    for number in range(1, SHARDS):
        for file in ("{}.parquet".format, index.name_of):
            os.link(made / file("train-00000"), made / file(f"train-{number:05d}"))
    entries = [replace(opened.shards[0], name=f"train-{number:05d}") for number in range(SHARDS)]
    (made / MANIFEST).write_text(manifest_json(opened.header, entries))
    return made


def sizes(folder: Path, *languages: str) -> tuple[int, ...]:
    return open_rows(folder, "train", ("captions", "image_id"), languages).sizes()


def test_how_many_rows_there_are_is_kept_beside_the_folder_and_held_to_its_checksum(folder: Path) -> None:
    whole = sizes(folder, "en")
    assert whole == (6, 6, 6) * SHARDS
    for number in range(1, SHARDS):  # opening looks at the first shard alone
        (folder / index.name_of(f"train-{number:05d}")).unlink()
    assert sizes(folder, "en") == whole
    (kept,) = (folder.parent / ".loader").iterdir()
    content = kept.read_bytes()
    flip(kept, 8 * 40 + 1)
    assert sizes(folder, "en") == whole  # from the shards, which are verified
    assert kept.read_bytes() == content
    (folder.parent / ".loader").rename(folder.parent / "elsewhere")
    (folder.parent / ".loader").write_text("a file is in the way")
    assert sizes(folder, "en") == whole


def test_a_tokenizer_that_was_trained_is_kept_for_its_settings(folder: Path) -> None:
    options = Options(end="drop")
    first = Loader(folder, recipe(), batch_size=8, options=options).tokenizer
    names = {file.name.partition("-")[0] for file in (folder.parent / ".loader").iterdir()}
    assert names == {"rows", "tokenizer"}
    (kept,) = (folder.parent / ".loader").glob("tokenizer-*")
    written = kept.stat().st_mtime_ns
    again = Loader(folder, recipe(), batch_size=8, options=options).tokenizer
    assert again.backend.to_str() == first.backend.to_str()
    assert kept.stat().st_mtime_ns == written
    Loader(folder, recipe("clip"), batch_size=8, options=options)
    assert len(list((folder.parent / ".loader").glob("tokenizer-*"))) == 2


def test_a_sample_is_spread_evenly(folder: Path) -> None:
    assert list(sampled(5, None)) == list(sampled(5, 5)) == [0, 1, 2, 3, 4]
    assert list(sampled(10, 4)) == [0, 2, 5, 7]
    rows = open_rows(folder, "train", ("captions", "image_id"), ())
    whole = list(rows.texts())
    assert list(rows.texts(3 * SHARDS)) == whole
    assert list(rows.texts(3)) == 3 * whole[:6]  # the first row group of each third of the shards

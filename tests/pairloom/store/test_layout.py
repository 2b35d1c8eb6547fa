"""All that is no shard has a folder of its own. Folders of pairloom 0.1.0, which had it beside the shards, are read."""

from __future__ import annotations

from pathlib import Path

import pyarrow.dataset as ds
import pytest

from pairloom.loader.options import Options
from pairloom.loader.remote import RemoteSource
from pairloom.store import counts, index
from pairloom.store.folder import ASIDE, COMPANIONS, JOURNAL, MANIFEST, Folder, is_table, open_folder
from pairloom.store.verify import folders_of, verify
from pairloom.store.writing import Writer
from pipeline.card import write_card
from tests.pairloom.loader.loading import write_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = write_folder(tmp_path / "data" / "shards", (9, 8))
    write_card(open_folder(made))
    return made


def as_before(folder: Path) -> Folder:
    """The folder as pairloom 0.1.0 had it, which did not count rows."""
    (folder / counts.NAME).unlink()
    for file in (folder / ASIDE).iterdir():
        file.rename(folder / file.name.removeprefix("."))
    (folder / ASIDE).rmdir()
    return open_folder(folder)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_only_shards_and_one_folder_lie_in_a_table(folder: Path) -> None:
    shards = ["train-00000.parquet", "train-00001.parquet"]
    assert names(folder) == [ASIDE, *shards]
    indices = [Path(index.name_of(Path(shard).stem)).name for shard in shards]
    assert names(folder / ASIDE) == sorted(
        [*indices, *(Path(file).name for file in (MANIFEST, counts.NAME, *COMPANIONS))]
    )
    assert ds.dataset(folder).count_rows() == 17


def test_the_folder_beside_the_shards_is_no_table(folder: Path) -> None:
    assert not is_table(folder / ASIDE)
    assert [found.path for found in folders_of(folder.parent)] == [folder]


def test_a_folder_of_before_is_read_as_it_is(folder: Path, tmp_path: Path) -> None:
    now = open_folder(folder)
    before = as_before(folder)
    assert before == now
    assert is_table(folder)
    assert verify(folder) == []
    remote = RemoteSource.open(folder.as_uri(), Options(cache=tmp_path / "cache"))
    assert remote.folder().shards == now.shards
    assert len(remote.index(now.shards[0])) == 9


def test_a_folder_of_before_is_in_the_new_form_once_it_is_written(folder: Path) -> None:
    wanted = {path.name: path.read_bytes() for path in (folder / ASIDE).iterdir()}
    before = as_before(folder)
    writer = Writer.open(folder, before.header)
    assert writer.complete
    writer.begin(writer.done)
    assert not (folder / Path(MANIFEST).name).exists()
    assert (folder / JOURNAL).exists()
    writer.finish()
    write_card(open_folder(folder))
    assert names(folder) == [ASIDE, "train-00000.parquet", "train-00001.parquet"]
    assert {path.name: path.read_bytes() for path in (folder / ASIDE).iterdir()} == wanted


def test_an_unfinished_folder_of_before_goes_on(folder: Path) -> None:
    before = as_before(folder)
    old = folder / Path(JOURNAL).name
    writer = Writer.open(folder, before.header)
    writer.begin(["train-00000"])
    (folder / JOURNAL).rename(old)
    assert not open_folder(folder).complete
    again = Writer.open(folder, before.header)
    assert not again.complete
    again.begin(again.done)
    again.finish()
    assert [entry.name for entry in open_folder(folder).shards] == ["train-00000"]
    assert not old.exists()

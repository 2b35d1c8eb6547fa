"""Reuse of another dataset: how its list is cut, and which folder is meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairloom.store.folder import open_folder
from pairloom.store.verify import verify
from pipeline.listing import write_list
from pipeline.reuse import in_workspace, other_dataset
from tests.pipeline.helpers import ListConfig, hashes, listed, write_texts

TEXTS = [f"text {row}" for row in range(10)]


def cut(data: Path) -> list[int]:
    return [entry.rows for entry in open_folder(data / "urls").shards]


def test_a_list_is_cut_as_the_others_was(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    write_texts(TEXTS[:6], first)
    write_texts(TEXTS, first)
    assert cut(first) == [4, 2, 4]
    done = write_list(listed(TEXTS), ListConfig(), second, redo=False, other=first)
    assert (done.made, done.reused, cut(second)) == (0, 3, [4, 2, 4])
    assert hashes(second / "urls") == hashes(first / "urls")
    longer = tmp_path / "longer"
    done = write_list(listed([*TEXTS, "more"]), ListConfig(), longer, redo=False, other=first)
    assert (done.made, done.reused, cut(longer)) == (1, 3, [4, 2, 4, 1])


def test_a_list_cut_by_other_settings_is_not_taken_over(tmp_path: Path) -> None:
    write_list(listed(TEXTS), ListConfig(rows_per_shard=3), tmp_path / "first", redo=False)
    done = write_list(listed(TEXTS), ListConfig(), tmp_path / "second", redo=False, other=tmp_path / "first")
    assert (done.reused, cut(tmp_path / "second")) == (0, [4, 4, 2])


lists = st.lists(st.sampled_from("xyz"), max_size=9)


@settings(max_examples=30)
@given(parts=st.lists(lists, min_size=1, max_size=3), own=lists, rows=lists, size=st.integers(0, 30))
def test_whatever_the_other_holds_the_list_is_stored_whole_and_in_order(
    parts: list[list[str]], own: list[str], rows: list[str], size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("lists")
    so_far: list[str] = []
    for part in parts:
        so_far += part
        write_texts(so_far, folder / "first")
    texts = [*so_far[:size], *rows]
    write_texts(texts[: len(own)], folder / "second")  # what it has of the list before it knows of the other
    done = write_list(listed(texts), ListConfig(), folder / "second", redo=False, other=folder / "first")
    table = open_folder(folder / "second/urls")
    assert [row["captions"][0]["text"] for _, part in table.tables() for row in part.to_pylist()] == texts
    assert verify(table) == []
    assert len(table.shards) == done.shards
    if not own and texts[: len(so_far)] == so_far:
        assert done.reused == len(open_folder(folder / "first/urls").shards)


def test_a_dataset_does_not_reuse_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert other_dataset(str(tmp_path), tmp_path) is None
    assert other_dataset(str(tmp_path), tmp_path.parent / "x/.." / tmp_path.name) is None
    assert other_dataset(None, tmp_path) is None
    assert capsys.readouterr().err == ""


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert other_dataset("/no/such/folder", tmp_path) is None
    assert "there is no folder /no/such/folder" in capsys.readouterr().err


@pytest.mark.parametrize("between", ["", "standalone"])
@pytest.mark.parametrize("project", ["", "project"])  # DVC's own folder in git's top folder, or below it
def test_the_workspace_of_an_experiment_is_found_by_its_place(tmp_path: Path, between: str, project: str) -> None:
    workspace = tmp_path / "top" / project
    copy = workspace / ".dvc/tmp/exps" / between / "tmpabc" / project
    (copy / ".dvc").mkdir(parents=True)
    assert in_workspace(copy / "data") == workspace / "data"
    assert in_workspace(copy / "data/recipes") == workspace / "data/recipes"
    assert in_workspace(workspace / "data") is None
    assert in_workspace(tmp_path / "elsewhere/data") is None
    assert other_dataset("workspace", copy / "data") is None  # it has no data yet
    (workspace / "data").mkdir()
    assert other_dataset("workspace", copy / "data") == workspace / "data"

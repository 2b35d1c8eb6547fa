"""Cutting the URL list: lines added at the end make new shards, a changed line is refused or redone."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairloom.errors import StoreError
from pairloom.store.folder import open_folder
from pipeline import listing
from pipeline.executor import Done
from pipeline.listing import write_list
from stages.sample import Config, parts
from tests.pipeline.helpers import hashes, write_texts

TEXTS = ["a", "b", "c", "d", "e", "f"]


def stored(data: Path) -> list[str]:
    tables = open_folder(data / "urls").tables()
    return [row["captions"][0]["text"] for _, table in tables for row in table.to_pylist()]


@settings(max_examples=30, deadline=None)
@given(parts=st.lists(st.lists(st.sampled_from("xyz"), max_size=9), min_size=1, max_size=4))
def test_a_list_that_grows_is_stored_whole_and_in_order(
    parts: list[list[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = tmp_path_factory.mktemp("data")
    so_far: list[str] = []
    for part in parts:
        before = hashes(data / "urls") if so_far else {}
        so_far += part
        write_texts(so_far, data)
        assert stored(data) == so_far
        now = hashes(data / "urls")
        assert all(now[name] == value for name, value in before.items() if name.endswith(".parquet"))


def test_a_changed_row_is_refused_by_number_and_redone_on_request(tmp_path: Path) -> None:
    write_texts(TEXTS, tmp_path)
    first = (tmp_path / "urls/00000.parquet").stat().st_mtime_ns
    changed = [*TEXTS[:4], "E", "f"]
    with pytest.raises(StoreError, match="row 4"):
        write_texts(changed, tmp_path)
    assert stored(tmp_path) == TEXTS
    write_texts(changed, tmp_path, redo=True)
    assert stored(tmp_path) == changed
    assert (tmp_path / "urls/00000.parquet").stat().st_mtime_ns == first


def test_a_shorter_list_is_refused_and_redone_on_request(tmp_path: Path) -> None:
    write_texts(TEXTS, tmp_path)
    with pytest.raises(StoreError, match="row 5"):
        write_texts(TEXTS[:5], tmp_path)
    write_texts(TEXTS[:5], tmp_path, redo=True)
    assert stored(tmp_path) == TEXTS[:5]


def test_rows_of_one_url_are_one_row_and_an_old_url_later_in_the_list_changes_no_shard(tmp_path: Path) -> None:
    lines = [f"http://h/{row % 4},caption {row}" for row in range(12)]
    done = cut(tmp_path, lines)
    assert (done.counts.rows_out, done.summary) == (4, {"list_rows": 12})
    wanted = [[f"caption {row + 4 * turn}" for turn in range(3)] for row in range(4)]
    assert captions(tmp_path) == wanted
    before = hashes(tmp_path / "urls")
    done = cut(tmp_path, [*lines, "http://h/1,later", "http://h/9,new", "http://h/9,newer"])
    assert (done.made, done.summary) == (1, {"list_rows": 15})
    assert captions(tmp_path) == [*wanted, ["later"], ["new", "newer"]]
    now = hashes(tmp_path / "urls")
    assert all(now[name] == value for name, value in before.items() if name.endswith(".parquet"))
    again = cut(tmp_path, [*lines, "http://h/1,later", "http://h/9,new", "http://h/9,newer"])
    assert again.made == 0
    assert hashes(tmp_path / "urls") == now


def test_rows_of_one_url_stay_apart_where_the_settings_say_so(tmp_path: Path) -> None:
    cut(tmp_path, ["http://h/1,a", "http://h/1,b"], unite=False)
    assert captions(tmp_path) == [["a"], ["b"]]


def cut(data: Path, lines: list[str], unite: bool = True) -> Done:
    (data / "list.csv").write_text("\n".join(["url,caption", *lines]) + "\n", encoding="utf-8")
    config = Config(urls=str(data / "list.csv"), rows_per_shard=2, unite=unite)
    return write_list(parts(config, data / "sample"), config, data, redo=False)


def captions(data: Path) -> list[list[str]]:
    rows = [row for _, table in open_folder(data / "urls").tables() for row in table.to_pylist()]
    return [[caption["text"] for caption in row["captions"]] for row in rows]


def test_many_small_shards_are_warned_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(listing, "MANY_SHARDS", 2)
    write_texts(TEXTS, tmp_path)
    assert capsys.readouterr().err.count("sample.rows_per_shard from 1,000 to 10,000") == 1

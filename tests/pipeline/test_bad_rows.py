"""Bad rows of a list: they lie in quarantine/sample with their line and text, also as the list grows and is mended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inspection.lint import lint
from pairloom.errors import InputError
from pairloom.store.folder import open_folder
from pipeline.executor import Done
from pipeline.listing import write_list
from stages.sample import Config, parts
from tests.inspection.synthetic import FLOW
from tests.pipeline.helpers import hashes

LINES = [
    "url,caption",
    "http://h/1,a",
    ",no url",
    "http://h/2,b",
    "http://h/3,c,d",
    "http://h/4,e",
    "http://h/5,f",
    "x",
]


def cut(data: Path, lines: list[str], redo: bool = False) -> Done:
    """The list in shards of two rows."""
    (data / "list.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = Config(urls=str(data / "list.csv"), rows_per_shard=2)
    return write_list(parts(config, data / "sample"), config, data, redo)


def left_out(data: Path) -> dict[str, list[tuple[str, str]]]:
    """Shard -> (key, text) of its bad rows."""
    rows = {name: table.to_pylist() for name, table in open_folder(data / "quarantine/sample").tables()}
    return {name: [(row["key"], json.loads(row["row"])["text"]) for row in bad] for name, bad in rows.items()}


def test_they_are_counted_and_kept_with_line_and_text(tmp_path: Path) -> None:
    done = cut(tmp_path, LINES)
    assert (done.counts.rows_in, done.counts.rows_out, done.counts.rejected) == (7, 4, {"bad-row": 3})
    assert left_out(tmp_path) == {
        "00000": [("list.csv:3", '{"url": "", "caption": "no url"}'), ("list.csv:5", "http://h/3,c,d")],
        "00001": [("list.csv:8", "x")],
    }
    assert [entry.rejected for entry in open_folder(tmp_path / "urls").shards] == [{"bad-row": 2}, {"bad-row": 1}]
    assert lint(tmp_path, FLOW) == []
    assert cut(tmp_path, LINES).made == 0


def test_a_list_that_grows_keeps_its_shards_and_a_bad_row_at_its_end_goes_to_the_last(tmp_path: Path) -> None:
    cut(tmp_path, LINES)
    before = hashes(tmp_path / "urls")
    done = cut(tmp_path, [*LINES, "y,z,", "http://h/6,g"])
    assert (done.made, done.counts.rejected) == (1, {"bad-row": 4})
    now = hashes(tmp_path / "urls")
    assert {name: now[name] for name in ("00000.parquet", "00001.parquet")} == {
        name: before[name] for name in ("00000.parquet", "00001.parquet")
    }
    assert [key for bad in left_out(tmp_path).values() for key, _ in bad] == [f"list.csv:{n}" for n in (3, 5, 8, 9)]


def test_another_bad_row_in_its_place_is_noted_without_a_new_shard(tmp_path: Path) -> None:
    cut(tmp_path, LINES)
    done = cut(tmp_path, [*LINES[:4], "http://h/3,c,d,e", *LINES[5:]])
    assert done.made == 0
    assert left_out(tmp_path)["00000"][1] == ("list.csv:5", "http://h/3,c,d,e")
    done = cut(tmp_path, [line for line in LINES if line not in ("x", "http://h/3,c,d", ",no url")])
    assert (done.made, done.counts.rejected, left_out(tmp_path)) == (0, {}, {})
    assert not list((tmp_path / "quarantine/sample").glob("*.parquet"))
    assert lint(tmp_path, FLOW) == []


def test_a_list_of_mostly_bad_rows_is_refused_by_its_first(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it has 1 fields, the header 2") as caught:
        cut(tmp_path, ["url,caption", "http://h/1,a", *["x"] * 3])
    assert "3 of the first 4 rows are bad" in str(caught.value)
    assert "line 3" in caught.value.args[1]

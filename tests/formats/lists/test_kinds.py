"""Several columns of captions, and what each of them is."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from formats.lists import ListColumns, read
from pairloom.errors import ConfigError, InputError
from pairloom.typed import build
from stages import sample


def captions(file: Path, columns: ListColumns) -> list[list[tuple[str, str | None, str | None]]]:
    rows = [row for part in read(file, columns, 9) for row in part.rows["captions"].to_pylist()]
    return [[(one["text"], one["kind"], one["lang"]) for one in row] for row in rows]


def columns(**settings: object) -> ListColumns:
    """As params.yaml gives them, whose lists are lists."""
    return build(sample.Config, settings, "test")


def test_several_columns_give_the_captions_of_all_with_their_kinds(tmp_path: Path) -> None:
    file = tmp_path / "list.parquet"
    pq.write_table(
        pa.table({"url": ["http://h/1", "http://h/2"], "re_caption": ["A long one. It goes on.", None],
                  "org_caption": ["alt", "only alt"], "more": [["one", "two"], []]}), file
    )  # fmt: skip
    named = columns(caption_column=["re_caption", "org_caption", "more"], kinds=["synthetic", "alt", "original"])
    assert captions(file, named) == [
        [("A long one. It goes on.", "synthetic", None), ("alt", "alt", None), ("one", "original", None),
         ("two", "original", None)],
        [("only alt", "alt", None)],
    ]  # fmt: skip
    rows = next(read(file, named, 9)).rows
    assert rows["extra"].to_pylist() == [[], []]


def test_a_caption_that_says_its_kind_keeps_it(tmp_path: Path) -> None:
    file = tmp_path / "list.jsonl"
    file.write_text('{"url": "http://h/1", "lang": "en", "caption": [{"text": "a", "kind": "translation"}, "b"]}')
    assert captions(file, columns(kinds=["original"])) == [[("a", "translation", "en"), ("b", "original", "en")]]


def test_a_column_that_is_not_there_and_kinds_of_another_number_are_refused(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("url,a\nhttp://h/1,x\n")
    with pytest.raises(InputError, match="no column 'b'"):
        captions(tmp_path / "list.csv", columns(caption_column=["a", "b"]))
    with pytest.raises(ConfigError, match="1 kinds for 2 columns"):
        columns(caption_column=["a", "b"], kinds=["alt"])
    with pytest.raises(ConfigError, match="'a' for two purposes"):
        columns(caption_column=["a", "a"])

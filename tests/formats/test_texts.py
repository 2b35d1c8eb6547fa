"""Lists of texts: every kind of file gives the same texts, and what is wrong is told with its line."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from formats.texts import read_texts
from pairloom.errors import InputError

TEXTS = [("A dog.", "en"), ("犬がいる", "ja"), ("", None), ("no code", None)]


def test_every_kind_of_file_gives_the_same_texts(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(f"  {text}\n" for text, _ in TEXTS), encoding="utf-8")
    lines = [json.dumps({"text": text, "other": 1} | ({"lang": lang} if lang else {})) for text, lang in TEXTS]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    texts, langs = zip(*TEXTS, strict=True)
    pq.write_table(pa.table({"text": texts, "lang": langs}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": texts}), tmp_path / "b.parquet")
    assert list(read_texts(tmp_path / "a.jsonl")) == list(read_texts(tmp_path / "a.parquet")) == TEXTS
    bare = [(text, None) for text in texts]
    assert list(read_texts(tmp_path / "a.txt")) == list(read_texts(tmp_path / "b.parquet")) == bare


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", b"text", "is no known format"),
        ("a.txt", b"good\n\xff\n", "no UTF-8"),
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', "line 2"),
        ("a.jsonl", b'{"text": "x"}\n["x"]\n', "line 2"),
        ("a.jsonl", b'{"text": "x", "lang": 3}\n', "line 1"),
        ("a.parquet", b"no parquet", "cannot read it"),
    ],
)
def test_what_is_wrong_is_told(name: str, content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=told):
        list(read_texts(tmp_path / name))


def test_a_missing_column_and_a_missing_file_are_told(tmp_path: Path) -> None:
    pq.write_table(pa.table({"caption": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="no column text"):
        list(read_texts(tmp_path / "a.parquet"))
    with pytest.raises(InputError, match="cannot read it"):
        list(read_texts(tmp_path / "none.txt"))

"""Lists of texts: every kind of file gives the same texts, and what is wrong is said with its row."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from formats.lists.texts import read_texts
from pairloom.errors import InputError

TEXTS = [("A dog.", "en"), ("犬がいる", "ja"), ("", None), ('no "code", null', None)]


def separated(delimiter: str) -> bytes:
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter).writerows([("lang", "text"), *((lang, text) for text, lang in TEXTS)])
    return stream.getvalue().encode()


def lists() -> dict[str, bytes]:
    """The same texts in every format, each packed in some way."""
    records = [{"text": text, "other": 1} | ({"lang": lang} if lang else {}) for text, lang in TEXTS]
    lines = "\n".join(map(json.dumps, records)).encode()
    return {
        "a.csv": separated(","),
        "a.tsv": separated("\t"),
        "a.json": json.dumps(records).encode(),
        "a.jsonl": lines,
        "b.csv.gz": gzip.compress(separated(",")),
        "b.tsv.bz2": bz2.compress(separated("\t")),
        "b.json.xz": lzma.compress(json.dumps(records).encode()),
        "b.ndjson.zst": pa.compress(lines, "zstd", asbytes=True),
    }


@pytest.mark.parametrize(("name", "content"), lists().items(), ids=lists())
def test_every_kind_of_file_gives_the_same_texts(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert list(read_texts(str(tmp_path / name))) == TEXTS


def test_parquet_may_lack_languages_and_a_line_of_txt_is_a_text(tmp_path: Path) -> None:
    texts, langs = zip(*TEXTS, strict=True)
    pq.write_table(pa.table({"text": texts, "lang": langs}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": texts}), tmp_path / "b.parquet")
    (tmp_path / "a.txt").write_text("".join(f"  {text}\n" for text in texts), encoding="utf-8")
    assert list(read_texts(str(tmp_path / "a.parquet"))) == TEXTS
    bare = [(text, None) for text in texts]
    assert list(read_texts(str(tmp_path / "a.txt"))) == list(read_texts(str(tmp_path / "b.parquet"))) == bare


def test_a_folder_on_any_file_system_of_fsspec_is_all_lists_in_it() -> None:
    system = fsspec.filesystem("memory")
    for name in ("a.csv", "b.ndjson.zst"):
        system.pipe(f"/texts/{name}", lists()[name])
    try:
        assert list(read_texts("memory://texts")) == TEXTS * 2
        assert list(read_texts("memory://texts/b.ndjson.zst")) == TEXTS
    finally:
        system.rm("/texts", recursive=True)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.doc", b"text", "not a format of lists"),
        ("a.txt", b"good\n\xff\n", "not UTF-8"),
        ("a.csv", b"caption\nx\n", "no column 'text'; there are: 'caption'"),
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', "line 2"),
        ("a.jsonl", b'{"text": "x"}\n["x"]\n', "line 2"),
        ("a.jsonl", b'{"text": "x", "lang": 3}\n', "row 1"),
        ("a.jsonl", b'{"text": "x"}\n{"text": [1]}\n', "row 2"),
        ("a.parquet", b"no parquet", "cannot be read as parquet"),
        ("a.txt.gz", b"no gzip", "cannot be read as txt"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_row(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        list(read_texts(str(tmp_path / name)))
    assert name in str(caught.value)


def test_a_missing_column_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"caption": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="no column 'text'"):
        list(read_texts(str(tmp_path / "a.parquet")))
    with pytest.raises(InputError, match="no such file"):
        list(read_texts(str(tmp_path / "none.txt")))

"""Lists with rows that can't be read: each is left out with its line and reason, and costs no other row."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.lists import ListColumns, Part, read
from formats.lists.stream import ListStream
from pairloom.errors import InputError
from tests.formats.lists.test_urls import table, written

# One bad row of each kind between good ones: its line, and what is said of it.
BAD: list[tuple[str, bytes, int, str]] = [
    ("list.csv", b"url,caption\nu,a\n  ,b\nv,c\n", 3, "'url' is '  '"),
    ("list.csv", b"url,caption\nu,a\nw\nv,c\n", 3, "it has 1 fields, the header 2"),
    ("list.csv", b"url,caption\nu,a\nw,b,c\nv,c\n", 3, "it has 3 fields, the header 2"),
    ("list.csv", b"url,caption\nu,a\nw,caf\xe9\nv,c\n", 3, "not UTF-8"),
    ("list.csv", b'url,caption\nu,a\nw,"b\nv,c\n', 3, "unexpected end of data"),
    ("list.csv", b'url,caption\nu,a\nw,"b\nv,"c"\n', 3, "expected after"),
    ("list.tsv", b'url\tcaption\nu\ta\nw\t"b"c\nv\tc\n', 3, "expected after"),
    ("list.csv", b"url,caption,checksum\nu,a,\nw,b,12\nv,c,\n", 3, "neither MD5 nor SHA-256"),
    ("list.jsonl", b'{"url": "u", "caption": "a"}\n{"url": \n{"url": "v", "caption": "c"}\n', 2, "as json"),
    ("list.jsonl", b'{"url": "u", "caption": "a"}\n[1]\n{"url": "v", "caption": "c"}\n', 2, "not an object"),
    ("list.jsonl", b'{"url": "u", "caption": "a"}\n{"url": null}\n{"url": "v", "caption": "c"}\n', 2, "no column"),
    ("list.jsonl", b'{"url": "u", "caption": "a"}\n{"url": "w"}\n{"url": "v", "caption": "c"}\n', 2, "no column"),
    (
        "list.jsonl",
        b'{"url": "u", "caption": "a"}\n{"url": "w", "url": "x", "caption": "b"}\n{"url": "v", "caption": "c"}\n',
        2,
        "two columns are called 'url'",
    ),
    ("list.jsonl", b'{"url": "u", "caption": "a"}\n{"url": "\xff"}\n{"url": "v", "caption": "c"}\n', 2, "not UTF-8"),
    ("list.json", b'[{"url": "u", "caption": "a"}, 3, {"url": "v", "caption": "c"}]', 2, "not an object"),
    ("list.txt", b"u\n\xff\nv\n", 2, "not UTF-8"),
]


@pytest.mark.parametrize(("name", "body", "line", "said"), BAD)
def test_a_bad_row_costs_no_other_row(tmp_path: Path, name: str, body: bytes, line: int, said: str) -> None:
    (part,) = read(written(tmp_path, name, body), ListColumns(), 9)
    assert part.rows["url"].to_pylist() == ["u", "v"]
    (bad,) = part.bad
    assert (bad.file, bad.number, bad.after) == (name, line, 1)
    assert said in bad.said


@given(
    rows=st.lists(st.tuples(st.booleans(), st.text(alphabet='ab",\u00e9\n', max_size=6)), min_size=1, max_size=12),
    rows_per_part=st.integers(1, 4),
)
@settings(max_examples=200, deadline=None)
def test_bad_lines_anywhere_leave_the_good_rows_as_they_are(rows: list[tuple[bool, str]], rows_per_part: int) -> None:
    good = [(f"http://h/{number}", text) for number, (fine, text) in enumerate(rows) if fine]
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(["url", "caption"])
    for number, (fine, text) in enumerate(rows):
        if fine:
            writer.writerow([f"http://h/{number}", text])
        else:
            stream.write(f"http://h/{number},{'x,' * 5}\r\n")
    with tempfile.TemporaryDirectory() as folder:
        file = written(Path(folder), "list.csv", stream.getvalue())
        if 2 * len(good) < len(rows) or not good:
            with pytest.raises(InputError):
                list(read(file, ListColumns(), len(rows)))
            return
        parts = list(read(file, ListColumns(), len(rows)))
        cut = list(cut_anew(file, rows_per_part))
    for found in (parts, cut):
        table = pa.concat_tables(part.rows for part in found)
        texts = [captions[0]["text"] if captions else "" for captions in table["captions"].to_pylist()]
        assert list(zip(table["url"].to_pylist(), texts, strict=True)) == good
        assert sum(len(part.bad) for part in found) == len(rows) - len(good)


def cut_anew(file: Path, rows: int) -> Iterator[Part]:
    stream = ListStream(read(file, ListColumns(), 1000))
    while stream.more():
        yield stream.take(rows)


def test_bytes_in_parquet_are_text_where_text_belongs_and_refused_elsewhere(tmp_path: Path) -> None:
    rows = pa.table(
        {
            "url": pa.array([b"http://h/1", b"http://h/2"], pa.binary()),
            "caption": pa.array([[b"h\xc3\xa9", None], [b"\xff"]], pa.list_(pa.binary())),
            "image": pa.array([{"bytes": b"\x00", "path": "a"}] * 2),
        }
    )
    pq.write_table(rows, tmp_path / "list.parquet")
    with pytest.raises(InputError, match="column 'image' holds bytes") as caught:
        table(tmp_path / "list.parquet")
    assert "sample.drop: [image]" in str(caught.value)
    (part,) = read(tmp_path / "list.parquet", ListColumns(drop=("image",)), 9)
    assert part.rows["captions"].to_pylist() == [[{"text": "hé", "lang": None, "kind": None}]]
    assert part.rows["extra"].to_pylist() == [[]]
    assert [(bad.number, "not UTF-8" in bad.said) for bad in part.bad] == [(2, True)]


def test_a_caption_that_is_not_a_number_is_no_caption(tmp_path: Path) -> None:
    pq.write_table(pa.table({"url": ["u"], "caption": [float("nan")]}), tmp_path / "list.parquet")
    assert table(tmp_path / "list.parquet")["captions"].to_pylist() == [[]]
    assert table(written(tmp_path, "list.jsonl", '{"url": "u", "caption": NaN}'))["captions"].to_pylist() == [[]]


def test_two_columns_of_one_name_are_refused_in_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.table([["u"], ["a"], ["b"]], names=["url", "caption", "caption"]), tmp_path / "list.parquet")
    with pytest.raises(InputError, match="two columns are called 'caption'"):
        table(tmp_path / "list.parquet")


def test_a_list_in_utf_16_is_read(tmp_path: Path) -> None:
    file = written(tmp_path, "list.csv", "url,caption\nhttp://h/1,é\n".encode("utf-16"))
    assert table(file)["captions"].to_pylist() == [[{"text": "é", "lang": None, "kind": None}]]

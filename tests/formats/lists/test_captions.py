"""Lists of captions: every format, packed and on any file system, gives the rows that other readers find there."""

from __future__ import annotations

import bz2
import csv
import gzip
import hashlib
import io
import json
import lzma
import tempfile
from collections.abc import Callable
from pathlib import Path

import duckdb
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.lists.captions import Columns, Listed, read_captions
from formats.lists.files import sha256
from pairloom.errors import InputError

Row = dict[str, str]
ROWS: list[Row] = [
    {"image_id": "007", "caption": 'a "red" dog, running', "lang": "en"},
    {"image_id": "b", "caption": "null", "lang": ""},
    {"image_id": "b", "caption": "two\nlines", "lang": "en"},
    {"image_id": "x", "caption": "狗", "lang": "zh"},
]


def separated(rows: list[Row], delimiter: str) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, ["lang", "image_id", "caption"], delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()


def parquet(rows: list[Row]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({name: [row[name] for row in rows] for name in ROWS[0]}), sink)
    return bytes(sink.getvalue())


def lines(rows: list[Row]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


WRITERS: dict[str, Callable[[list[Row]], bytes]] = {
    "csv": lambda rows: separated(rows, ","),
    "tsv": lambda rows: separated(rows, "\t"),
    "json": lambda rows: json.dumps(rows).encode(),
    "jsonl": lines,
    "ndjson": lines,
    "parquet": parquet,
    "csv.gz": lambda rows: gzip.compress(separated(rows, ",")),
    "tsv.bz2": lambda rows: bz2.compress(separated(rows, "\t")),
    "csv.xz": lambda rows: lzma.compress(separated(rows, ",")),
    "jsonl.zst": lambda rows: pa.compress(lines(rows), "zstd", asbytes=True),
    "json.gz": lambda rows: gzip.compress(json.dumps(rows).encode()),
}
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), max_size=20)


def rows_of(listed: Listed) -> list[Row]:
    columns = (listed.ids.to_pylist(), listed.texts.to_pylist(), listed.langs.to_pylist())
    return [{"image_id": i, "caption": text, "lang": lang or ""} for i, text, lang in zip(*columns, strict=True)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.fixed_dictionaries({"image_id": TEXT, "caption": TEXT, "lang": TEXT}), min_size=1, max_size=5))
def test_every_format_gives_the_rows_that_were_written(rows: list[Row]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for kind, write in WRITERS.items():
            file = Path(folder, f"captions.{kind}")
            file.write_bytes(write(rows))
            assert rows_of(read_captions(str(file))) == rows, kind


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "csv.gz", "jsonl.zst"])
def test_a_list_reads_as_duckdb_reads_it(kind: str, tmp_path: Path) -> None:
    file = tmp_path / f"captions.{kind}"
    file.write_bytes(WRITERS[kind](ROWS))
    reader = {"csv": "read_csv", "jsonl": "read_json", "parquet": "read_parquet"}[kind.split(".")[0]]
    options = ", all_varchar = true, header = true" if reader == "read_csv" else ""
    query = f"SELECT image_id, caption, coalesce(lang, '') FROM {reader}('{file}'{options})"
    seen = [dict(zip(("image_id", "caption", "lang"), row, strict=True)) for row in duckdb.execute(query).fetchall()]
    assert rows_of(read_captions(str(file))) == seen == ROWS


def test_a_folder_and_a_path_of_fsspec_are_read() -> None:
    system = fsspec.filesystem("memory")
    for name in ("a.csv", "b.jsonl.zst", "c.parquet"):
        system.pipe(f"/captions/{name}", WRITERS[name[2:]](ROWS))
    try:
        assert rows_of(read_captions("memory://captions")) == ROWS * 3
        assert rows_of(read_captions("memory://captions/b.jsonl.zst")) == ROWS
    finally:
        system.rm("/captions", recursive=True)


def test_lines_are_numbered_through_a_folder_of_txt_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("".join(f"{row}\r\n" for row in range(9)).encode())
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"\xef\xbb\xbflast"))
    listed = read_captions(str(tmp_path))
    assert listed.ids.to_pylist() == [f"{row:02d}" for row in range(1, 11)]
    assert listed.texts.to_pylist() == [*map(str, range(9)), "last"]


def test_other_columns_are_not_looked_at(tmp_path: Path) -> None:
    many = [f"{row},a dog,{row}" for row in range(1 << 20)]  # more than Arrow reads to guess a column's type
    (tmp_path / "a.csv").write_text("\n".join(["id,text,n", *many, "x,a cat,n/a"]), encoding="utf-8")
    listed = read_captions(str(tmp_path / "a.csv"), Columns(image_id="id", caption="text"))
    assert len(listed.ids) == len(many) + 1
    assert listed.langs.null_count == len(listed.ids)


def test_whole_numbers_stay_numbers_and_do_not_mix_with_text(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"image_id": 7, "caption": "a dog"}]', encoding="utf-8")
    assert read_captions(str(tmp_path)).ids.to_pylist() == [7]
    (tmp_path / "b.csv").write_text("image_id,caption\n8,a cat\n", encoding="utf-8")
    with pytest.raises(InputError, match="int64 here and string there"):
        read_captions(str(tmp_path))
    (tmp_path / "c.txt").write_text("a cat\n", encoding="utf-8")
    with pytest.raises(InputError, match="only some of its lists are txt"):
        read_captions(str(tmp_path))


def test_the_digest_of_a_file_is_that_of_its_bytes_and_a_folders_changes_with_any_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(b"one")
    assert sha256(str(tmp_path / "a.csv.gz")) == sha256(str(tmp_path)) == hashlib.sha256(b"one").hexdigest()
    (tmp_path / "b.csv").write_bytes(b"two")
    both = sha256(str(tmp_path))
    (tmp_path / "b.csv").write_bytes(b"2")
    assert sha256(str(tmp_path)) != both


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("c.csv", b"id,caption\na,b\n", ["no column 'image_id'", "id, caption", "--image-column"]),
        ("c.csv", b"", ["no column 'image_id'", "none"]),
        ("c.csv", b"image_id,caption\na,b\na,b,c\n", ["it has 3 fields, the header 2", "line 3"]),
        ("c.csv", b"image_id,image_id\na,b\n", ["two columns are called 'image_id'"]),
        ("c.csv", b"image_id,caption\na,caf\xe9\n", ["not UTF-8", "save the list as UTF-8"]),
        ("c.jsonl", b'{"image_id": "a", "caption": "b"}\n{"image_id": "a"}\n', ["caption is missing", "row 2"]),
        ("c.jsonl", b'{"image_id": "a", "caption": "b"}\n{', ["cannot be read as json", "line 2"]),
        ("c.json", b'{"image_id": "a"}', ["not a list of objects"]),
        ("c.json", b'[{"image_id": "a", "caption": 3}]', ["cannot be read as json"]),
        ("c.txt", b"good\n\xff\n", ["not UTF-8", "row 2"]),
        ("c.doc", b"", ["doc is not a format of lists"]),
        ("c.parquet", b"nothing", ["cannot be read as parquet"]),
        ("c.csv.gz", b"nothing", ["cannot be read as csv"]),
        ("c.jsonl.zst", b"nothing", ["cannot be read as jsonl"]),
        ("c.txt.xz", b"nothing", ["cannot be read as txt"]),
    ],
)
def test_what_is_wrong_is_said_with_file_row_and_cure(
    name: str, content: bytes, said: list[str], tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_captions(str(tmp_path / name))
    assert [part for part in [name, *said] if part not in str(caught.value)] == []


@settings(max_examples=60, deadline=None)
@given(body=st.binary(max_size=200), kind=st.sampled_from(["txt", *WRITERS]))
def test_any_bytes_give_captions_or_a_plain_error(body: bytes, kind: str) -> None:
    complaint = None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"list.{kind}")
        file.write_bytes(body)
        try:
            read_captions(str(file))
        except InputError as error:
            complaint = str(error)
    assert complaint is None or file.name in complaint

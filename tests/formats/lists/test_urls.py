"""Lists: the same rows read to the same table from every format, and what is wrong is said plainly."""

import bz2
import csv
import gzip
import io
import json
import lzma
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.lists import ListColumns, read
from pairloom.errors import InputError
from pairloom.extra import as_dict, as_extra
from schemas.urls import URLS

COLUMNS = ["url", "caption", "lang", "licence", "source", "checksum", "my column"]
Row = dict[str, str | None]


def separated(rows: list[Row], delimiter: str) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, COLUMNS, delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()


def parquet(rows: list[Row]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({name: pa.array([row[name] for row in rows], pa.string()) for name in COLUMNS}), sink)
    return bytes(sink.getvalue())


WRITERS: dict[str, Callable[[list[Row]], bytes]] = {
    "csv": lambda rows: separated(rows, ","),
    "tsv": lambda rows: separated(rows, "\t"),
    "json": lambda rows: json.dumps(rows).encode(),
    "jsonl": lambda rows: "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode(),
    "parquet": parquet,
    "csv.gz": lambda rows: gzip.compress(separated(rows, ",")),
    "tsv.bz2": lambda rows: bz2.compress(separated(rows, "\t")),
    "csv.xz": lambda rows: lzma.compress(separated(rows, ",")),
    "json.zst": lambda rows: pa.compress(json.dumps(rows).encode(), "zstd", asbytes=True),
    "jsonl.gz": lambda rows: gzip.compress("\n".join(map(json.dumps, rows)).encode()),
}

URL = st.text(st.sampled_from("abcü/:?&=,;%\"' #.1"), max_size=20).map(lambda tail: f"http://host/{tail}".strip())
TEXT = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SUM = st.sampled_from([None, "a" * 32, "sha256:" + "0" * 64])
ROWS = st.lists(
    st.fixed_dictionaries(
        {"url": URL, "caption": TEXT, "lang": st.sampled_from([None, "en", "zh-Hant"]), "licence": TEXT, "source": TEXT}
        | {"checksum": SUM, "my column": TEXT}
    ),
    min_size=1,
    max_size=7,
)


def written(folder: Path, name: str, body: bytes | str) -> Path:
    file = folder / name
    file.write_bytes(body.encode() if isinstance(body, str) else body)
    return file


def table(file: Path | str, **settings: Any) -> pa.Table:
    return pa.concat_tables(part.rows for part in read(file, ListColumns(**settings), 64))


def expected(row: Row) -> dict[str, Any]:
    """The row of table urls that a row of text stands for, where the caption is no JSON list."""
    kept = {key: value or None for key, value in row.items()}
    caption = {"text": kept["caption"], "lang": kept["lang"], "kind": None}
    total = kept["checksum"] and {32: "md5:"}.get(len(kept["checksum"]), "") + kept["checksum"]
    return {
        "url": kept["url"],
        "captions": [caption] if kept["caption"] else [],
        "licence": kept["licence"],
        "source": kept["source"],
        "checksum": total,
        "extra": as_extra({"my column": kept["my column"]} if kept["my column"] else {}),
    }


@settings(max_examples=80, deadline=None)
@given(rows=ROWS)
def test_the_same_rows_read_alike_from_every_format(rows: list[Row]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tables = {kind: table(written(Path(folder), f"list.{kind}", write(rows))) for kind, write in WRITERS.items()}
        first = URLS.check(tables["parquet"], "parquet")
        for kind, other in tables.items():
            assert other.equals(first), kind
        lines = written(Path(folder), "list.txt", "".join(f"{row['url']}\n" for row in rows))
        assert table(lines)["url"].to_pylist() == first["url"].to_pylist()
    for row, seen in zip(rows, first.to_pylist(), strict=True):
        if not (row["caption"] or "").lstrip().startswith("["):
            assert seen == expected(row)


@given(rows=ROWS, rows_per_shard=st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_tables_have_rows_per_shard_rows_whatever_the_files(rows: list[Row], rows_per_shard: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        half = len(rows) // 2
        written(Path(folder), "1.jsonl", WRITERS["jsonl"](rows[:half]))
        written(Path(folder), "2.csv", WRITERS["csv"](rows[half:]))
        cut = [part.rows.num_rows for part in read(Path(folder), ListColumns(), rows_per_shard)]
    assert sum(cut) == len(rows)
    assert all(count == rows_per_shard for count in cut[:-1])


def test_captions_may_be_lists_in_every_format(tmp_path: Path) -> None:
    rows = [{"url": "http://h/1", "caption": ["a dog", "ein Hund"], "lang": ["en", "de"]}]
    text = [{"url": "http://h/1", "caption": '["a dog", "ein Hund"]', "lang": '["en", "de"]'}]
    lines = written(tmp_path, "list.jsonl", json.dumps(rows[0]))
    columns = written(tmp_path, "list.parquet", b"")
    pq.write_table(pa.Table.from_pylist(rows), columns)
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, ["url", "caption", "lang"])
    writer.writeheader()
    writer.writerows(text)
    commas = written(tmp_path, "list.csv", stream.getvalue())
    wanted = [[{"text": "a dog", "lang": "en", "kind": None}, {"text": "ein Hund", "lang": "de", "kind": None}]]
    assert [table(file)["captions"].to_pylist() for file in (lines, columns, commas)] == [wanted] * 3


def test_captions_may_be_objects_with_a_language_and_a_kind(tmp_path: Path) -> None:
    captions = [
        {"text": "a dog", "lang": "en", "kind": "original"},
        {"text": "狗", "lang": "zh", "kind": "translation"},
    ]
    row = {"url": "http://h/1", "caption": captions}
    file = written(tmp_path, "list.jsonl", json.dumps(row))
    assert table(file)["captions"].to_pylist() == [row["caption"]]


def test_a_caption_in_square_brackets_is_no_list(tmp_path: Path) -> None:
    file = written(tmp_path, "list.csv", "url,caption\nhttp://h/1,[a dog]\nhttp://h/2,[1]\n")
    assert [row[0]["text"] for row in table(file)["captions"].to_pylist()] == ["[a dog]", "[1]"]


def test_values_that_look_like_numbers_or_nothing_stay_text(tmp_path: Path) -> None:
    file = written(tmp_path, "list.csv", "url,caption,n\nhttp://h/1,007,1e5\nhttp://h/2,null,NaN\n")
    seen = table(file)
    assert [row[0]["text"] for row in seen["captions"].to_pylist()] == ["007", "null"]
    assert seen["extra"].to_pylist() == [as_extra({"n": "1e5"}), as_extra({"n": "NaN"})]


def test_other_types_become_json_text(tmp_path: Path) -> None:
    row = {"url": "http://h/1", "caption": "a", "size": 3, "ok": True, "box": [1, 2], "none": None}
    extra = table(written(tmp_path, "list.jsonl", json.dumps(row)))["extra"].to_pylist()
    assert extra == [as_extra({"size": "3", "ok": "true", "box": "[1, 2]"})]


def test_quotation_marks_are_letters_where_the_settings_say_so(tmp_path: Path) -> None:
    file = written(tmp_path, "list.tsv", 'caption\turl\n"a dog" says the sign\thttp://h/1\n5" screen\thttp://h/2\n')
    captions = table(file, quotes=False)["captions"].to_pylist()
    assert [row[0]["text"] for row in captions] == ['"a dog" says the sign', '5" screen']
    (part,) = read(file, ListColumns(), 9)
    assert [(bad.number, "cannot be read as tsv" in bad.said) for bad in part.bad] == [(2, True)]


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    file = written(tmp_path, "list.csv", "URL,TEXT,LICENSE,url\nhttp://h/1,a dog,CC0,kept\n")
    row = table(file, url_column="URL", caption_column="TEXT", licence_column="LICENSE").to_pylist()[0]
    assert row["licence"] == "CC0"
    assert row["captions"] == [{"text": "a dog", "lang": None, "kind": None}]
    assert row["extra"] == as_extra({"url": "kept"})


def test_captions_are_left_out_when_the_settings_say_so(tmp_path: Path) -> None:
    assert table(written(tmp_path, "list.csv", "url\nhttp://h/1\n"), caption_column=None)["captions"].to_pylist() == [
        []
    ]


def test_half_a_surrogate_pair_does_not_stop_the_list(tmp_path: Path) -> None:
    file = written(tmp_path, "list.jsonl", '{"url": "http://h/1", "caption": "a \\ud83d b \\ud83d\\ude00"}')
    assert table(file)["captions"].to_pylist()[0][0]["text"] == "a \ufffd b 😀"


def test_a_mark_of_byte_order_and_foreign_line_ends_are_no_part_of_the_list(tmp_path: Path) -> None:
    file = written(tmp_path, "list.csv", "\ufeffurl,caption\r\nhttp://h/1,a\r\n\r\nhttp://h/2,b\r\n")
    assert table(file)["url"].to_pylist() == ["http://h/1", "http://h/2"]


WRONG: list[tuple[str, bytes | str | None, dict[str, Any], list[str]]] = [
    ("list.csv", "", {}, ["no rows", "list.csv"]),
    ("list.csv", "url,caption\n", {}, ["no rows"]),
    ("list.txt", "\n \n", {}, ["no rows"]),
    ("list.csv", "link,caption\nhttp://h/1,a\n", {}, ["no column 'url'", "'link'", "line 2", "sample.url_column"]),
    ("list.csv", "url,text\nhttp://h/1,a\n", {}, ["no column 'caption'", "'text'", "sample.caption_column"]),
    ("list.csv", "url,caption\nhttp://h/1,a\n", {"licence_column": "rights"}, ["no column 'rights'"]),
    ("list.csv", "url,caption\nu,a\n,b\n,c\n", {}, ["'url' is ''", "line 3", "2 of the first 3 rows are bad"]),
    ("list.jsonl", "[1]\n", {}, ["a row is '[1]', not an object"]),
    ("list.json", '{"url": "u"}', {}, ["not a list of objects"]),
    ("list.csv", "url,caption\nhttp://h/1,a,b\n", {}, ["it has 3 fields, the header 2", "line 2"]),
    ("list.csv", "url,url\na,b\n", {}, ["two columns are called 'url'"]),
    ("list.csv", 'url,caption\nhttp://h/1,"a\n', {}, ["cannot be read as csv"]),
    ("list.csv", b"url,caption\nhttp://h/1,caf\xe9\n", {}, ["not UTF-8", "save the list as UTF-8"]),
    ("list.parquet", b"no parquet", {}, ["cannot be read as parquet"]),
    ("list.csv.gz", b"no gzip", {}, ["cannot be read as csv"]),
    ("list.csv.gz", gzip.compress(b"url,caption\n" * 99, mtime=0)[:-9], {}, ["cannot be read as csv"]),
    ("list.csv", gzip.compress(b"url,caption\n", mtime=0), {}, ["packed as gz", "the ending .gz"]),
    ("list.csv", "url;caption\nhttp://h/1;a\n", {}, ["separated by semicolons"]),
    ("list.csv", "url\tcaption\nhttp://h/1\ta\n", {}, ["separated by tabs"]),
    ("list.json", '[{"url": "u", "url": "v", "caption": "a"}]', {}, ["two columns are called 'url'"]),
    ("list.xlsx", b"", {}, ["xlsx is not a format", "csv"]),
    ("list.csv.zst", b"no zstd", {}, ["cannot be read as csv"]),
    ("list.tsv.xz", lzma.compress(b"url\tcaption\n" * 99)[:-9], {}, ["cannot be read as tsv"]),
    ("list.tsv.bz2", bz2.compress(b"url\tcaption\n" * 99)[:-9], {}, ["cannot be read as tsv"]),
    ("list.tsv", "a\thttp://h/1\t0.5\n", {"columns": ("caption", "url")}, ["3 fields, 2 names of columns are given"]),
    ("list.jsonl", '{"url": "u", "caption": "a"}\n', {"columns": ("url", "caption")}, ["leave sample.columns out"]),
    ("nowhere://bucket/list.csv", None, {}, ["nowhere", "correct the name"]),
    ("list.parquet.gz", b"", {}, ["parquet.gz is not a format"]),
    ("list.csv", "url,caption,checksum\nu,a,12\n", {}, ["the checksum '12'", "line 2", "sha256:"]),
    (
        "list.csv",
        'url,caption,lang\nu,"[""a"", ""b""]","[""en"", ""de"", ""fr""]"\n',
        {},
        ["2 captions have 3 languages"],
    ),
]


@pytest.mark.parametrize(("name", "body", "settings", "parts"), WRONG)
def test_what_is_wrong_is_said_with_file_row_value_and_cure(
    tmp_path: Path, name: str, body: bytes | str | None, settings: dict[str, Any], parts: list[str]
) -> None:
    place = name if body is None else written(tmp_path, name, body)
    with pytest.raises(InputError) as caught:
        table(place, **settings)
    message = str(caught.value)
    assert str(place) in message
    assert [part for part in parts if part not in message] == []


# Lines in the form of the published files: no header, quotation marks that quote nothing.
CONCEPTUAL = [
    ("cc3m.tsv", 'a "very typical bus station\thttp://h/1.jpg\n', ("caption", "url")),
    ("cc12m.tsv", 'http://h/1.jpg\ta "very typical bus station\n', ("url", "caption")),
]


@pytest.mark.parametrize(("name", "body", "columns"), CONCEPTUAL)
def test_a_list_without_a_header_line_is_read_by_the_names_given(
    tmp_path: Path, name: str, body: str, columns: tuple[str, str]
) -> None:
    found = table(written(tmp_path, name, body), columns=columns, quotes=False)
    assert found["url"].to_pylist() == ["http://h/1.jpg"]
    assert found["captions"].to_pylist() == [[{"text": 'a "very typical bus station', "lang": None, "kind": None}]]


def test_lists_are_read_from_any_file_system_of_fsspec(tmp_path: Path) -> None:
    system = fsspec.filesystem("memory")
    system.pipe("/lists/a.csv", b"url,caption\nhttp://h/1,one\n")
    system.pipe("/lists/b.tsv.gz", gzip.compress(b"url\tcaption\nhttp://h/2\ttwo\n"))
    system.pipe("/lists/readme.md", b"no list")
    try:
        assert table("memory://lists")["url"].to_pylist() == ["http://h/1", "http://h/2"]
        assert table("memory://lists/b.tsv.gz")["url"].to_pylist() == ["http://h/2"]
    finally:
        system.rm("/lists", recursive=True)


def test_a_missing_list_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        table(tmp_path / "none.csv")
    with pytest.raises(InputError, match="the folder has no list"):
        table(tmp_path)


@settings(max_examples=60, deadline=None)
@given(
    body=st.binary(max_size=200),
    kind=st.sampled_from(["csv", "tsv", "txt", "json", "jsonl", "parquet", "csv.gz", "csv.zst", "csv.xz"]),
)
def test_any_bytes_give_a_table_or_a_plain_error(body: bytes, kind: str) -> None:
    name, complaint = f"list.{kind}", None
    with tempfile.TemporaryDirectory() as folder:
        try:
            URLS.check(table(written(Path(folder), name, body)), "any bytes")
        except InputError as error:
            complaint = str(error)
    assert complaint is None or name in complaint


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_an_ordinary_list_reads_as_img2dataset_reads_it(tmp_path: Path, kind: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # of what it imports, about what Python 3.13 removes, there it cannot be imported
        peer_reader = pytest.importorskip("img2dataset.reader", exc_type=ImportError).Reader
    texts = ["a dog, running", 'the "old" town', "狗在杯子左边", "plain"]
    rows: list[Row] = [
        dict.fromkeys(COLUMNS) | {"url": f"http://h/{i}.jpg", "caption": text, "my column": "x"}
        for i, text in enumerate(texts)
    ]
    file = written(tmp_path, f"list.{kind}", WRITERS[kind](rows))
    peer = peer_reader(str(file), kind, "url", "caption", None, None, ["my column"], 3, set(), str(tmp_path))
    seen = pa.concat_tables(pa.ipc.open_file(shard).read_all() for _, shard in peer)
    ours = table(file)
    assert ours["url"].to_pylist() == seen["url"].to_pylist()
    assert [row[0]["text"] for row in ours["captions"].to_pylist()] == seen["caption"].to_pylist()
    assert [as_dict(row)["my column"] for row in ours["extra"].to_pylist()] == seen["my column"].to_pylist()

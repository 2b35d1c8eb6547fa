"""Rows of one URL become one row with the captions of all, against brute force, in files of any size."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.lists import BadRow, Part, uniting
from formats.lists.uniting import later_rows, united
from schemas.urls import URLS

Rows = list[tuple[str, list[str]]]


def table(rows: Rows) -> pa.Table:
    captions = [[{"text": text, "lang": "en"} for text in texts] for _, texts in rows]
    return URLS.table(url=[url for url, _ in rows], captions=captions, extra=[[] for _ in rows])


def brute_force(rows: Rows) -> Rows:
    found: dict[str, list[str]] = {}
    for url, texts in rows:
        if url in found:
            found[url] += [text for text in dict.fromkeys(texts) if text not in found[url]]
        else:
            found[url] = list(texts)
    return list(found.items())


def plain(parts: list[Part]) -> Rows:
    rows = [row for part in parts for row in part.rows.to_pylist()]
    return [(row["url"], [caption["text"] for caption in row["captions"]]) for row in rows]


LISTS = st.lists(st.tuples(st.sampled_from("abcdef"), st.lists(st.sampled_from("xyz"), max_size=2)), max_size=30)


@given(rows=LISTS, size=st.integers(1, 7), in_memory=st.integers(1, 9), files=st.integers(1, 3))
@settings(max_examples=200, deadline=None)
def test_it_is_what_brute_force_gives(rows: Rows, size: int, in_memory: int, files: int) -> None:
    parts = [Part(table(rows[start : start + size])) for start in range(0, len(rows), size)]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(uniting, "ROWS_IN_MEMORY", in_memory)
        patch.setattr(uniting, "MOST_FILES", files)
        assert plain(list(united(parts, Path(folder)))) == brute_force(rows)


@given(rows=LISTS, size=st.integers(1, 7))
@settings(max_examples=100, deadline=None)
def test_urls_of_one_hash_stay_apart(rows: Rows, size: int) -> None:
    parts = [Part(table(rows[start : start + size])) for start in range(0, len(rows), size)]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(xxhash, "xxh3_64_intdigest", lambda url: url[0] % 2)
        found = plain(list(united(parts, Path(folder))))
    texts = {url: sorted(set(texts)) for url, texts in brute_force(rows)}
    assert {url for url, _ in found} == texts.keys()
    assert {url: sorted({text for u, said in found for text in said if u == url}) for url in texts} == texts


@given(hashes=st.lists(st.integers(0, 5)))
def test_later_rows_are_those_whose_hash_came_before(hashes: list[int]) -> None:
    later, first = later_rows(np.array(hashes, np.uint64))
    wanted = [(row, hashes.index(value)) for row, value in enumerate(hashes) if hashes.index(value) < row]
    assert list(zip(later.tolist(), first.tolist(), strict=True)) == wanted


def test_bad_rows_stay_behind_the_good_row_before_them(tmp_path: Path) -> None:
    bad = [BadRow(after, "list.csv", number, "bad", "") for number, after in enumerate((0, 1, 2, 3, 4))]
    first, second = table([("a", ["x"]), ("b", [])]), table([("a", ["y"]), ("c", [])])
    parts = [Part(first, tuple(bad[:3])), Part(second, tuple(bad[3:]))]
    found = list(united(parts, tmp_path))
    assert plain(found) == [("a", ["x", "y"]), ("b", []), ("c", [])]
    assert [one.after for part in found for one in part.bad] == [0, 1, 2, 2, 3]

"""Paths as text of one line and back."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.names import as_path, as_text, one_line


@given(name=st.binary(min_size=1, max_size=12) | st.text(max_size=8).map(lambda text: text.encode("utf-8", "replace")))
def test_every_name_becomes_one_line_of_utf8_and_comes_back(name: bytes) -> None:
    path = os.fsdecode(name)
    text = as_text(path)
    assert as_path(text) == path
    assert len(text.encode("utf-8").decode("utf-8").splitlines()) <= 1
    assert "\t" not in text
    assert one_line(text) == text


@given(one=st.text(alphabet="\\\\tnx0\t\n\udcff", max_size=6), other=st.text(alphabet="\\\\tnx0\t\n\udcff", max_size=6))
def test_different_names_are_different_texts(one: str, other: str) -> None:
    assert (as_text(one) == as_text(other)) == (one == other)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("plain é 猫.jpg", "plain é 猫.jpg"),
        ("a\tb\nc\r.jpg", "a\\tb\\nc\\r.jpg"),
        (os.fsdecode(b"bad\xff\xfe.jpg"), "bad\\xff\\xfe.jpg"),
        ("back\\slash.jpg", "back\\\\slash.jpg"),
        ("\x1b[31m.jpg", "\\x1b[31m.jpg"),
        ("\u0085\u2028.jpg", "\\u0085\\u2028.jpg"),
    ],
)
def test_what_cannot_be_seen_is_escaped(path: str, text: str) -> None:
    assert as_text(path) == text
    assert as_path(text) == path

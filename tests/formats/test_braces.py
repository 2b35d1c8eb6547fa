"""Braces stand for the names that braceexpand, which WebDataset and Energon use, gives."""

from __future__ import annotations

import braceexpand
import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.braces import expanded

NUMBERS = st.sampled_from(("0", "3", "000", "011", "-2", "7"))
RANGES = st.tuples(NUMBERS, NUMBERS, st.sampled_from(("", "..2", "..-3"))).map(lambda r: f"{{{r[0]}..{r[1]}{r[2]}}}")
PLAIN = st.text(alphabet="ab/.-_", max_size=3)
PATTERNS = st.recursive(
    PLAIN | RANGES,
    lambda inner: (
        st.lists(inner, min_size=2, max_size=3).map("".join)
        | st.lists(inner, min_size=2, max_size=3).map(lambda parts: "{" + ",".join(parts) + "}")
    ),
    max_leaves=6,
)


@given(PATTERNS)
def test_braces_expand_as_braceexpand_has_them(pattern: str) -> None:
    assert expanded(pattern) == list(braceexpand.braceexpand(pattern))


@pytest.mark.parametrize("text", ["plain.tar", "a{b}c.tar", "open{a,b.tar", "{}", "a}b,c{", "back\\{a,b.tar"])
def test_what_has_nothing_to_expand_stays(text: str) -> None:
    assert expanded(text) == [text]

"""The pieces of generated pages: cells, tables and paragraphs in Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence

LONGEST = 120  # characters a line of prose


def cell(text: str) -> str:
    """The text on one line, so that a bar ends no cell of the table."""
    return " ".join(text.split()).replace("|", "\\|")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a table, an empty one after it. None where there are no rows."""
    lines = [f"| {' | '.join(map(cell, row))} |" for row in rows]
    if lines:
        yield from (f"| {' | '.join(head)} |", "|" + "---|" * len(head), *lines, "")


def wrapped(text: str, indent: str = "") -> str:
    """The paragraph in lines of at most LONGEST characters with this indent. No word is broken."""
    return textwrap.fill(
        " ".join(text.split()),
        LONGEST,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )

"""docs/reference/tables.md and reasons.md are what schemas/ says today."""

from __future__ import annotations

from pathlib import Path

import pytest

from inspection import reasons
from inspection.tables import PAGE, names, table_of, tables_markdown
from pipeline.stage import flow

FIRST = flow().tables()
ORDER = list(dict.fromkeys([*FIRST, *names()]))
ROOT = Path(__file__).parents[2]


def test_the_committed_page_is_up_to_date() -> None:
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    assert page == tables_markdown(FIRST), "run `python -m pipeline.pages` and commit docs/reference/tables.md"


def test_the_committed_page_of_reasons_is_up_to_date() -> None:
    page = (ROOT / reasons.PAGE).read_text(encoding="utf-8")
    assert page == reasons.reasons_markdown(), f"run `python -m pipeline.pages` and commit {reasons.PAGE}"


def test_every_schema_is_on_the_page_with_every_column() -> None:
    modules = {path.stem for path in (ROOT / "schemas").glob("*.py") if "= Table(" in path.read_text(encoding="utf-8")}
    assert modules == set(names())
    sections = dict(zip(ORDER, tables_markdown(FIRST).split("\n## ")[1:], strict=True))
    for name in names():
        for column in table_of(name).columns:
            assert f"| `{column.name}`" in sections[name]
            assert column.meaning in sections[name]


def test_fields_of_structs_have_the_meaning_of_their_own_struct() -> None:
    sections = dict(zip(ORDER, tables_markdown(FIRST).split("\n## ")[1:], strict=True))
    assert "`text` | `string` | as training sees it" in sections["pairs"]
    assert "`text` | `string` | so that a shard can be read alone" in sections["negatives"]


def test_there_is_no_table_of_an_unknown_name() -> None:
    with pytest.raises(KeyError):
        table_of("errors")

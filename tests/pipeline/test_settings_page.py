"""docs/reference/settings.md is what the settings' classes say today."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml

from pairloom.typed import Positive, Range, Share, build
from pipeline.settings_page import PAGE, comments_of, sections, settings_markdown

ROOT = Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Below:
    sides: tuple[int, ...]  # inherited
    # of two lines, for
    # a field that has no comment of its own
    name: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Documented(Below):
    # A heading
    share: Share = 0.5  # a "#" in quotes
    top: Annotated[int, Range(above=0)] | Literal["all"] = dataclasses.field(
        default=3,  # where a long line is wrapped
    )
    quoted: str = "# no comment"
    frequency: Positive | Share = 1  # a | b


def test_the_committed_page_is_up_to_date() -> None:
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    assert page == settings_markdown(), f"run `python -m pipeline.pages` and commit {PAGE}"


def test_comments_beside_and_above_a_field_are_its_meaning_and_those_above_both_a_heading() -> None:
    found = {name: (said.meaning, said.heading) for name, said in comments_of(Documented).items()}
    assert found == {
        "sides": ("inherited", ""),
        "name": ("of two lines, for a field that has no comment of its own", ""),
        "share": ('a "#" in quotes', "A heading"),
        "top": ("where a long line is wrapped", ""),
        "quoted": ("", ""),
        "frequency": ("a | b", ""),
    }


def rows(section: str) -> dict[str, list[str]]:
    """Setting -> the cells of its row on the page."""
    (text,) = (part for part in settings_markdown().split("\n## ") if part.startswith(f"{section}\n"))
    cells = [re.split(r" (?<!\\)\| ", line.strip("| ")) for line in text.split("\n\nEach of")[0].splitlines()]
    return {row[0].strip("`"): row for row in cells if row[0].startswith("`")}


@pytest.mark.parametrize("section", sections())
def test_every_setting_has_a_row_with_a_meaning_and_its_default_as_yaml_has_it(section: str) -> None:
    kind, found = sections()[section], rows(section)
    assert list(found) == [item.name for item in dataclasses.fields(kind)]
    for item in dataclasses.fields(kind):
        assert found[item.name][-1], f"{section}.{item.name} has no comment that says what it means"
    optional: dict[str, Any] = {
        item.name: yaml.safe_load(found[item.name][3].strip("`"))
        for item in dataclasses.fields(kind)
        if item.default is not dataclasses.MISSING
    }
    required = {"sources": [{"file": "a.json"}]} if section == "qa" else {}
    assert build(kind, required | optional, "") == build(kind, required, "")


def test_every_section_of_the_params_that_ship_is_on_the_page() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    assert {*params} - {"train"} <= {*sections()}


def test_rows_say_what_a_reader_looks_for() -> None:
    assert rows("download")["connections"][1:5] == ["int", "1 or more", "`256`", "no"]
    assert rows("negatives")["min_df"][1:4] == ["int or float", "int: 1 or more; float: from 0 to 1", "`1`"]
    assert rows("curate")["max_distance"][1:4] == ["int or null", "from 0 to 16", json.dumps(4).join("``")]
    assert rows("tags")["recipe"][1] == "one of 'attribute+class', 'oscar', 'vinvl', 'unimo'"
    assert rows("qa")["sources"][3] == "none: set it"
    assert "| `annotations` | str or null |" in settings_markdown()

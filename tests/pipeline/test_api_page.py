"""docs/reference/python.md is what the package `pairloom` offers today."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import pytest

import pairloom
from pipeline.api_page import GROUPS, PAGE, api_markdown

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / PAGE).read_text(encoding="utf-8")
GROUPED = [name for names in GROUPS.values() for name in names]


def section(name: str) -> str:
    (text,) = (part for part in TEXT.split("\n### ") if part.startswith(f"{name}\n"))
    return text.partition("\n## ")[0]


def test_the_committed_page_is_up_to_date() -> None:
    assert api_markdown() == TEXT, f"run `python -m pipeline.pages` and commit {PAGE}"


def test_every_name_that_the_package_offers_is_there_once() -> None:
    errors = [name for name in pairloom.__all__ if name.endswith("Error")]
    assert sorted([*GROUPED, *errors]) == sorted(pairloom.__all__)
    assert all(f"[{name}](errors.md#{name.lower()})" in TEXT for name in errors)


@pytest.mark.parametrize("name", GROUPED)
def test_every_parameter_field_and_method_of_a_name_is_in_its_section(name: str) -> None:
    value, text = getattr(pairloom, name), section(name)
    assert (inspect.getdoc(value) or "?").splitlines()[0] in text
    if dataclasses.is_dataclass(value):
        assert [f for f in (item.name for item in dataclasses.fields(value)) if f"| `{f}` |" not in text] == []
    elif not getattr(value, "_is_protocol", False):
        parameters = [each for each in inspect.signature(value).parameters if each != "self"]
        assert [each for each in parameters if f"{each}: " not in text] == []
    methods = [key for key, member in vars(value).items() if inspect.isfunction(member) and not key.startswith("_")]
    assert [key for key in methods if isinstance(value, type) and f"- `{key}(" not in text] == []

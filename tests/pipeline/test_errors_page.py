"""docs/reference/errors.md is what the classes say today, and what the command line does with them."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest

from pairloom import errors
from pairloom.errors import PairloomError
from pipeline import cli
from pipeline.errors_page import PAGE, classes, errors_markdown

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / PAGE).read_text(encoding="utf-8")


def test_the_committed_page_is_up_to_date() -> None:
    assert errors_markdown() == TEXT, f"run `python -m pipeline.pages` and commit {PAGE}"


def test_every_class_is_there_with_its_meaning_and_its_cure() -> None:
    assert {kind for _, kind in inspect.getmembers(errors, inspect.isclass)} <= {*classes()}
    for kind in classes():
        (section,) = (part for part in TEXT.split("\n## ") if part.startswith(f"{kind.__name__}\n"))
        assert section.partition("**Cure**: ")[2].strip()
        assert f"import {kind.__name__}`" in section


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
def test_each_ends_a_command_with_exit_code_1_and_three_parts(
    kind: type[PairloomError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ((),) if issubclass(kind, errors.MissingColumnsError) else ()

    def fails(*_: object) -> None:
        raise kind("no table", "data", "make one", *more)

    monkeypatch.setattr(cli, "_print", fails)
    assert cli.main(["recipe", "list", "--json"]) == 1
    printed = capsys.readouterr()
    assert printed.err == f"{kind.__name__}: no table\n  where: data\n  fix: make one\n"
    said = {"error": kind.__name__, "what": "no table", "where": "data", "fix": "make one"}
    assert json.loads(printed.out) == said

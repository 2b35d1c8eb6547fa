"""docs/reference/command-line.md is what the parser says today, with every option that --help prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.command_page import PAGE, command_markdown

ROOT = Path(__file__).parents[2]


def test_the_committed_page_is_up_to_date() -> None:
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    assert page == command_markdown(), f"run `python -m pipeline.pages` and commit {PAGE}"


@pytest.mark.parametrize("verb", ["run", "download", "shards filter", "detector add", "train"])
def test_the_page_has_every_option_that_help_prints(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*verb.split(), "--help"])
    printed = set(re.findall(r"^  (--[\w-]+)", capsys.readouterr().out, re.MULTILINE)) - {"--json"}
    section = command_markdown().partition(f"# pairloom {verb}\n")[2].partition("\n## ")[0].partition("\n### ")[0]
    assert printed
    assert printed == set(re.findall(r"^\| `(--[\w-]+)", section, re.MULTILINE))

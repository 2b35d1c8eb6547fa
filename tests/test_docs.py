"""The pages of docs/ hang together: links lead to pages and headings, code names pages that exist, words are plain."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.words import FENCE, faults_of, says_for_whom

HERE = Path(__file__).parents[1]
PAGES = sorted([*HERE.glob("*.md"), *(HERE / "docs").rglob("*.md"), *(HERE / "examples").rglob("*.md")])
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s#]*)(?:#([^)\s]*))?\)")


def anchors_of(page: Path) -> set[str]:
    """The names that GitHub and mkdocs give the headings of a page."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = (re.sub(r"[^\w\- ]", "", line.lower()) for line in re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE))
    return {heading.replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> Iterator[str]:
    for target, anchor in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        path = (page.parent / target).resolve() if target else page
        if not path.exists():
            yield f"{target}: there is no such file"
        elif anchor and path.suffix == ".md" and anchor not in anchors_of(path):
            yield f"{target}#{anchor}: there is no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(HERE)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert not list(broken_links(page))


def test_a_broken_link_would_be_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One two: three\n[a](#one-two-three) [b](#four) [c](none.md) [d](https://example.org)\n")
    assert [each.partition(":")[0] for each in broken_links(page)] == ["#four", "none.md"]


def test_every_figure_names_the_script_that_draws_it() -> None:
    drawn = re.compile(r"<!-- drawn by python -m ([\w.]+)[^>]* -->\n$")
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for figure in re.finditer(r"^!\[", text, re.MULTILINE):
            named = drawn.search(text[: figure.start()])
            assert named, f"{page}: {text[figure.start() :][:60]}"
            assert Path(HERE, *named[1].split(".")).with_suffix(".py").exists()


def test_code_names_only_pages_that_exist() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=HERE, capture_output=True, text=True, check=True).stdout.split()
    named = {
        (name, page)
        for name in listed
        if Path(name).suffix in {".py", ".yaml", ".toml"} or name in {"Makefile", "Dockerfile"}
        for page in re.findall(r"\bdocs/[\w\-/]+\.\w+", (HERE / name).read_text(encoding="utf-8"))
    }
    assert not {(name, page) for name, page in named if not (HERE / page).exists()}


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        ("word " * 30, "1 lines of over 120 characters, 0 may be"),
        ("One thing; another thing.", "1 semicolons, 0 may be: write two sentences"),
        ("A sentence. Built are detectors.", '"Built are": write subject, verb, object'),
        ("The table is built. It is read.", None),
        ("| a; b |\n```\n" + "x = 1; " * 30 + "\n```", None),
    ],
)
def test_words_that_are_not_plain_are_found(page: str, fault: str | None) -> None:
    assert list(faults_of(page)) == ([fault] if fault else [])


@pytest.mark.parametrize(
    ("page", "says"),
    [("# A page\n\nFor people who read.\n", True), ("# A page\n\nIt reads.\n", False), ("# A page\n```\n", False)],
)
def test_a_page_without_its_reader_is_found(page: str, says: bool) -> None:
    assert says_for_whom(page) is says


def test_the_errors_that_are_explained_are_those_that_the_source_raises() -> None:
    page = (HERE / "docs/how-to/when-something-breaks.md").read_text(encoding="utf-8")
    rooms = ("pairloom", "pipeline", "stages", "trainer", "systems", "evaluation", "formats", "inspection")
    source = "\n".join(file.read_text(encoding="utf-8") for room in rooms for file in (HERE / room).rglob("*.py"))
    quoted = re.findall(r"\*\*\"([^\"]+)\"\*\*", page)
    assert len(quoted) > 10
    assert not [words for words in quoted if words not in source]

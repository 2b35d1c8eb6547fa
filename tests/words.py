"""Counts what can be counted of plain English: `python -m tests.words`, a part of `make lint`.

In the pages of docs/ these are lines over 120 characters, semicolons by the sentence, and inverted sentences such as
"Built are …". Tables and code do not count. A generated page has the semicolons of the source that it is written from.
tests/source_words.py counts those of comments, docstrings and messages. A tutorial and a how-to begin with their
reader.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

from tests import source_words
from tests.plain import HERE, INVERTED, SENTENCE

LONGEST = 120
SEMICOLONS = 5  # a hundred sentences
FOR_WHOM = ("tutorial", "how-to")  # kinds of pages that begin with their reader
GENERATED = "Written by `python -m pipeline.pages`"
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def prose_of(page: str) -> str:
    """The page without code, tables and comments."""
    lines = COMMENT.sub("", FENCE.sub("", page)).splitlines()
    return "\n".join(line for line in lines if not line.startswith("|"))


def faults_of(page: str) -> Iterator[str]:
    """What is wrong with the page's words."""
    prose = prose_of(page)
    long_lines = sum(len(line) > LONGEST for line in prose.splitlines())
    if long_lines:
        yield f"{long_lines} lines of over {LONGEST} characters, 0 may be"
    semicolons = prose.count(";")
    most = len(SENTENCE.findall(prose)) * SEMICOLONS // 100
    if semicolons > most and GENERATED not in page:
        yield f"{semicolons} semicolons, {most} may be: write two sentences"
    for found in INVERTED.findall(prose):
        yield f'"{found}": write subject, verb, object'


def says_for_whom(page: str) -> bool:
    """Whether the first paragraph after the title begins with its reader."""
    return re.search(r"^# [^\n]+\n\nFor \w+", page) is not None


def main() -> int:
    """Print every fault; 1 if there is one."""
    found = False
    for path in sorted([*HERE.glob("*.md"), *(HERE / "docs").rglob("*.md")]):
        name, page = str(path.relative_to(HERE)), path.read_text(encoding="utf-8")
        if name == "CHANGELOG.md":
            continue
        faults = list(faults_of(page))
        if path.parent.name in FOR_WHOM and not says_for_whom(page):
            faults.append("the first paragraph does not say for whom the page is: For people who …")
        for fault in faults:
            found = True
            print(f"{name}: {fault}")
    for fault in source_words.faults():
        found = True
        print(fault)
    return int(found)


if __name__ == "__main__":
    sys.exit(main())

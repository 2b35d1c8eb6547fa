"""What the comments of a YAML file say of its settings.

A comment belongs to the setting on its line. On a line of its own it belongs to the setting below, or goes on with the
comment above where it begins in the same column. The first lines of a file are about all of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

COMMENT = re.compile(r"(?:^|\s)#\s?(.*)$")
KEY = re.compile(r"^( *)([\w.-]+):(?:\s+(.*?))?$")


@dataclass(frozen=True)
class Said:
    """A setting with its value in the file ("" for a section) and its comment. Path "" for the end of the file."""

    path: str
    value: str
    comment: str


def head_of(text: str) -> list[str]:
    """The lines of the comment that the file begins with."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return lines


def comments_of(text: str) -> list[Said]:
    """Each setting of the file that has a comment, in the file's order."""
    found: list[Said] = []
    path: list[tuple[int, str]] = []  # (indentation, key) of the sections that the line is in
    waiting: list[str] = []  # comments for the setting below
    column = -1  # where the comment of the last setting began
    for line in text.splitlines()[len(head_of(text)) :]:
        comment = COMMENT.search(line)
        code = (line[: comment.start()] if comment else line).rstrip()
        words = comment.group(1).strip() if comment else ""
        if comment and not code:
            if line.index("#") == column and not waiting:
                found[-1] = replace(found[-1], comment=f"{found[-1].comment} {words}")
            else:
                waiting.append(words)
        elif key := KEY.match(code):
            indent = len(key.group(1))
            path = [*(each for each in path if each[0] < indent), (indent, key.group(2))]
            said = " – ".join(part for part in (" ".join(waiting), words) if part)
            waiting, column = [], line.index("#", len(code)) if comment else -1
            if said:
                found.append(Said(".".join(name for _, name in path), key.group(3) or "", said))
    return [*found, Said("", "", " ".join(waiting))] if waiting else found

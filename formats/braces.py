"""Names written with braces, as shells and WebDataset's tools have them: `train-{000..011}.tar`, `{a,b}.tar`."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)(?:\.\.(-?\d+))?")


def expanded(text: str) -> list[str]:
    """The names in their order. The text alone where it has no braces to expand. Backslashes mean themselves."""
    for start, end in _pairs(text):
        inside = _alternatives(text[start + 1 : end])
        if inside is not None:
            rests = expanded(text[end + 1 :])
            return [f"{text[:start]}{middle}{rest}" for middle, rest in itertools.product(inside, rests)]
    return [text]


def _pairs(text: str) -> Iterator[tuple[int, int]]:
    """(opening, closing) of each pair of braces, the outer ones first."""
    for start in (place for place, letter in enumerate(text) if letter == "{"):
        depth = 0
        for place in range(start, len(text)):
            depth += (text[place] == "{") - (text[place] == "}")
            if depth == 0:
                yield start, place
                break


def _alternatives(inside: str) -> list[str] | None:
    """What a pair of braces stands for. None where they stand for themselves."""
    if found := RANGE.fullmatch(inside):
        return _numbers(found)
    parts = _split(inside)
    return None if len(parts) == 1 else [name for part in parts for name in expanded(part)]


def _numbers(found: re.Match[str]) -> list[str]:
    """A range counts up or down, by a step. A leading zero pads all of its numbers."""
    first, last, step = int(found[1]), int(found[2]), abs(int(found[3] or 1)) or 1
    padded = any(each.lstrip("-").startswith("0") and len(each.lstrip("-")) > 1 for each in (found[1], found[2]))
    width = max(len(found[1]), len(found[2])) if padded else 0
    numbers = range(first, last + 1, step) if first <= last else range(first, last - 1, -step)
    return [str(number).zfill(width) for number in numbers]


def _split(text: str) -> list[str]:
    """The text at its commas outside of inner braces."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "{") - (letter == "}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts

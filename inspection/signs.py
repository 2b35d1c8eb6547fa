"""Signs of a false negative: of a caption that fits the picture as well as its own does."""

from __future__ import annotations

import re

DIGITS = re.compile(r"\d+")


def same_but_numbers(one: str, other: str) -> bool:
    """Whether two texts have the same words once their numbers are left out."""
    return DIGITS.sub("0", one.casefold()).split() == DIGITS.sub("0", other.casefold()).split()

"""What goes into one example before anything is read or made of it: a row, an image, its texts, perhaps a question."""

from __future__ import annotations

from dataclasses import dataclass

from pairloom.loader.row import Row


@dataclass(frozen=True)
class Question:
    """One question about an image."""

    text: str
    answers: tuple[tuple[str, float], ...]  # text and how right it is, above 0 to 1, best first, perhaps none


@dataclass(slots=True)  # not frozen: one is made for each row, which takes a fifth of the time
class Pair:
    """What goes into one example, before anything is read or made of it."""

    row: Row  # that the example is about
    image: Row  # whose image
    text: str
    second: str | None  # a text that follows it, such as tags
    mismatch: int = 0  # 0: all belongs together, else what does not, as the objective numbers it
    question: Question | None = None  # that the text asks, unless it was replaced since

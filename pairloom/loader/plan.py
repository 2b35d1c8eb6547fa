"""What the loader asks of a recipe, as Protocols: a recipe of any trainer fits that has these parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pairloom.loader.drawing import Draw
from pairloom.typed import Positive, check_ranges


@dataclass(frozen=True, kw_only=True)
class Text:
    """Section `text` of a recipe: which captions, and how they become tokens."""

    tokenizer: Literal["wordpiece", "byte_bpe", "unigram"]
    vocab_size: Positive  # of a tokenizer that is trained here
    lowercase: bool
    max_tokens: Positive  # start and end included, what is longer is cut
    languages: tuple[str, ...] = ()  # BCP 47 codes. Empty means all. A caption without a code is always taken
    second: Literal["none", "tags"] = "none"  # what follows the caption as a second text
    draw: tuple[Draw, ...] = ()  # texts of an image, drawn every epoch; none: each caption is a row of its own

    def __post_init__(self) -> None:
        check_ranges(self)


class Part(Protocol):
    """A module and its settings.

    The units' module has `load(row, settings, rng)`, an objective's `prepare(example, row, make, settings, rng)` and
    perhaps `pair(pair, settings, rng)`; trainer/contract.py has the types.
    """

    @property
    def module(self) -> Any: ...
    @property
    def settings(self) -> Any: ...
    @property
    def ratio(self) -> float:
        """How often its steps are drawn, beside those of the others."""


class Plan(Protocol):
    """What is read of the shards and made of each row, such as trainer.recipe.Recipe."""

    @property
    def name(self) -> str: ...
    @property
    def text(self) -> Text: ...
    @property
    def units(self) -> Part: ...

    def columns(self) -> tuple[str, ...]:
        """The columns of the shards that are read."""

    def steps(self) -> Mapping[str, Mapping[str, Part]]:
        """The objectives of each kind of step, in the order in which they prepare its rows."""

    def numbered_by(self) -> frozenset[str]:
        """Keys of the shards' metadata whose entries a head numbers, beyond those of the columns: `answers`."""

    def shows_text_alone(self) -> bool:
        """Whether an objective has rows of text without an image."""

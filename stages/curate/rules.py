"""The rules that look at one row alone: sides and aspect of the image, cleaning and length of its captions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from schemas.errors import ConfigError
from stages.curate.text import clean, count_words

Caption = Mapping[str, Any]  # text, original, lang


@dataclass(frozen=True, kw_only=True)
class Config:
    """Section `curate` of params.yaml."""

    min_side: int = 64  # pixels of the shorter side of the stored image
    max_aspect: float = 4.0  # longer side / shorter side
    min_chars: int = 1  # of a cleaned caption; "猫" is one
    max_chars: int = 1000
    min_words: int = 1  # runs of letters and digits; each character in Chinese, Japanese and Thai
    max_words: int = 256
    max_distance: int | None = 4  # bits of 64 by which perceptual hashes of near duplicates differ; null: no such rule

    def __post_init__(self) -> None:
        self._check("min_side", self.min_side >= 1, "1 or more")
        self._check("max_aspect", self.max_aspect >= 1, "1 or more")
        self._check("min_chars", 1 <= self.min_chars <= self.max_chars, "from 1 to max_chars")
        self._check("min_words", 0 <= self.min_words <= self.max_words, "from 0 to max_words")
        self._check("max_distance", self.max_distance is None or 0 <= self.max_distance <= 16, "from 0 to 16, or null")

    def _check(self, name: str, good: bool, wanted: str) -> None:
        if not good:
            raise ConfigError(f"curate.{name} is {getattr(self, name)!r}", "params.yaml", f"set it to {wanted}")


@dataclass(frozen=True)
class Verdict:
    """What the rules say of one row: its cleaned captions, those that were dropped and why, or a reason against it."""

    captions: list[dict[str, Any]]
    dropped: list[tuple[Caption, str]]
    reason: str | None = None
    detail: str = ""


def judge(width: int, height: int, captions: Iterable[Caption], config: Config) -> Verdict:
    """Apply all rules to one row; with a reason the row goes, else `captions` has at least one."""
    kept, dropped = curated(captions, config)
    shorter, longer = sorted((width, height))
    if shorter < config.min_side:
        return Verdict(kept, dropped, "image-size", f"{width} × {height}, a side is below {config.min_side}")
    if longer > config.max_aspect * shorter:
        return Verdict(kept, dropped, "image-aspect", f"{width} × {height}, more than {config.max_aspect:g} to 1")
    if not kept:
        reason = "caption-length" if any(why != EMPTY for _, why in dropped) else "no-caption"
        return Verdict(kept, dropped, reason, "; ".join(why for _, why in dropped) or "the list gives none")
    return Verdict(kept, dropped)


EMPTY = "nothing is left of it"


def curated(captions: Iterable[Caption], config: Config) -> tuple[list[dict[str, Any]], list[tuple[Caption, str]]]:
    """Cleaned captions within the limits, without repetitions (same text and language); and the others with the why."""
    kept: dict[tuple[str, str | None], dict[str, Any]] = {}
    dropped = []
    for caption in captions:
        text = clean(caption["text"])
        if why := _too_short_or_long(text, config):
            dropped.append((caption, why))
        else:
            kept.setdefault((text, caption["lang"]), {**caption, "text": text})
    return list(kept.values()), dropped


def _too_short_or_long(text: str, config: Config) -> str | None:
    if not text:
        return EMPTY
    if not config.min_chars <= len(text) <= config.max_chars:
        return f"{len(text)} characters, not {config.min_chars} to {config.max_chars}"
    words = count_words(text)
    if not config.min_words <= words <= config.max_words:
        return f"{words} words, not {config.min_words} to {config.max_words}"
    return None

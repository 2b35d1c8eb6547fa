"""The settings of curating, and the profiles: the rules of published data sets by name, in profiles/*.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pairloom.errors import ConfigError

PROFILES = Path(__file__).parent / "profiles"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Section `curate` of params.yaml: a profile, and what differs from it."""

    profile: str = "default"  # a file of stages/curate/profiles; what the section sets besides counts more
    # The image
    min_bytes: int = 0  # of the image as stored
    min_side: int = 64  # pixels of the shorter side of the picture as fetched, upright
    max_aspect: float = 4.0  # longer side / shorter side
    max_image_captions: int | None = None  # of all rows with these bytes; null: any number
    # Each caption, once it is cleaned; an image goes when none is left
    min_chars: int = 1  # "猫" is one
    max_chars: int = 1000
    min_words: int = 1  # runs of letters and digits; each character in Chinese, Japanese and Thai
    max_words: int = 256
    min_letters: float = 0.0  # share of letters among what is no space, 0 to 1
    allow_markup: bool = True  # false: no URLs, e-mail addresses, file names, tags or braces
    languages: tuple[str, ...] = ()  # codes such as en; as the list says, else found by py3langid; none: any
    blocked_words: str | None = None  # a text file, a word or phrase a line; a caption that has one goes
    max_repeats: int | None = None  # images of the list so far with the same caption
    max_repeat_share: float | None = None  # the same as a share of all images so far, 0 to 1
    # The corpus
    unite_duplicates: bool = True  # rows with the same bytes become one, with all captions
    max_distance: int | None = 4  # bits of 64 by which perceptual hashes of near duplicates differ; null: no such rule
    exclude: tuple[str, ...] = ()  # tables of hashes, tables of pairs, or folders of images to keep away from
    exclude_distance: int = 4  # bits, as max_distance
    score_column: str | None = None  # a column of the list (in `extra`) with a score by another tool
    min_score: float | None = None
    top_share: float | None = None  # of the rows so far, by score, 0 to 1

    def __post_init__(self) -> None:
        self._check("min_bytes", self.min_bytes >= 0, "0 or more")
        self._check("min_side", self.min_side >= 1, "1 or more")
        self._check("max_aspect", self.max_aspect >= 1, "1 or more")
        self._check("min_chars", 1 <= self.min_chars <= self.max_chars, "from 1 to max_chars")
        self._check("min_words", 0 <= self.min_words <= self.max_words, "from 0 to max_words")
        self._check("min_letters", 0 <= self.min_letters <= 1, "from 0 to 1")
        self._check("max_distance", self.max_distance is None or 0 <= self.max_distance <= 16, "from 0 to 16, or null")
        self._check("exclude_distance", 0 <= self.exclude_distance <= 16, "from 0 to 16")
        for name in ("max_image_captions", "max_repeats"):
            value = getattr(self, name)
            self._check(name, value is None or value >= 1, "1 or more, or null")
        for name in ("max_repeat_share", "top_share"):
            value = getattr(self, name)
            self._check(name, value is None or 0 < value <= 1, "more than 0 and at most 1, or null")
        scored = self.min_score is not None or self.top_share is not None
        self._check("score_column", bool(self.score_column) == scored, "a column, with min_score or top_share")
        self._check(
            "max_distance", self.max_distance is None or self.unite_duplicates, "null, or unite_duplicates: true"
        )

    def _check(self, name: str, good: bool, wanted: str) -> None:
        if not good:
            raise ConfigError(f"curate.{name} is {getattr(self, name)!r}", "params.yaml", f"set it to {wanted}")

    @staticmethod
    def expanded(section: Mapping[str, Any]) -> dict[str, Any]:
        """The section with all that its profile sets and it does not. Raises ConfigError for an unknown profile."""
        name = section.get("profile", "default")
        file = PROFILES / f"{name}.yaml"
        if not isinstance(name, str) or not file.is_file():
            raise ConfigError(
                f"there is no profile {name!r}", str(PROFILES), f"name one of {', '.join(profile_names())}"
            )
        rules: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))["rules"]
        return rules | dict(section)


def profile_names() -> list[str]:
    return sorted(file.stem for file in PROFILES.glob("*.yaml"))

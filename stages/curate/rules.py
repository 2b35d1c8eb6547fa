"""The rules that look at one row: of the image, and of each caption. Each has a name, a threshold and a reason.

A rule says what is wrong, or None. `IMAGE_RULES` and `CAPTION_RULES` give their order and the reason in the quarantine
table. The first one that objects counts.
"""

from __future__ import annotations

import functools
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import regex

from stages.curate.config import Config
from stages.curate.languages import other_language
from stages.curate.repeats import text_hash
from stages.curate.text import clean, words_of

EXACT = 1e-9  # 1 - 4/5 is more than 0.2 in binary
Caption = Mapping[str, Any]  # text, original, lang

LINK = re.compile(
    r"https?://|www\.|\b[\w-]+\.(?:com|org|net|jpe?g|png|gif|html?|php)\b|[\w.+-]+@[\w-]+\.\w", re.IGNORECASE
)
MARKUP = re.compile(r"</?[a-zA-Z][^<>]*>|[{}\[\]|\\]|&\w+;|%[0-9a-fA-F]{2}")


@dataclass(frozen=True)
class Facts:
    """What the rules know of a row beside its captions."""

    width: int  # as fetched, upright: what published recipes mean, whatever size is stored
    height: int
    bytes: int = 0  # of the stored image, if a rule asks for it
    captions: int = 0  # of all rows with these bytes
    score: float | None = None  # in Config.score_column
    score_floor: float | None = None  # what top_share comes to
    repeated: AbstractSet[int] = field(default_factory=frozenset)  # hashes of captions that too many images have
    similarity: Mapping[str, float] = field(default_factory=dict)  # clean caption -> what stage `score` says, if asked
    similarity_floor: float | None = None  # what top_similarity comes to
    heads: Mapping[str, float] = field(default_factory=dict)  # of stage `score`


@dataclass(frozen=True)
class Verdict:
    """What the rules say of one row: its cleaned captions, those that were dropped and why, or a reason against it."""

    captions: list[dict[str, Any]]
    dropped: list[tuple[Caption, str]]
    reason: str | None = None
    detail: str = ""


def judge(facts: Facts, captions: Iterable[Caption], config: Config) -> Verdict:
    """Apply all rules to one row; with a reason the row goes, else `captions` has at least one."""
    kept, dropped = curated(captions, facts, config)
    left_out = [(caption, why) for caption, _, why in dropped]
    for reason, rule in IMAGE_RULES:
        if why := rule(facts, config):
            return Verdict(kept, left_out, reason, why)
    if not kept:
        reason = next((reason for _, reason, _ in dropped if reason != EMPTY), EMPTY)
        return Verdict(kept, left_out, reason, "; ".join(why for _, why in left_out) or "the list gives none")
    return Verdict(kept, left_out)


def curated(
    captions: Iterable[Caption], facts: Facts, config: Config
) -> tuple[list[dict[str, Any]], list[tuple[Caption, str, str]]]:
    """Cleaned captions that pass, each text and language once, and (caption, reason, why) of the others."""
    kept: dict[tuple[str, str | None], dict[str, Any]] = {}
    dropped = []
    for caption in captions:
        text = clean(caption["text"])
        if objection := _objection(text, caption["lang"], facts, config):
            dropped.append((caption, *objection))
        else:
            kept.setdefault((text, caption["lang"]), {**caption, "text": text})
    return list(kept.values()), dropped


def _objection(text: str, lang: str | None, facts: Facts, config: Config) -> tuple[str, str] | None:
    if not text:
        return EMPTY, "nothing is left of it"
    for reason, rule in CAPTION_RULES:
        if why := rule(text, lang, config):
            return reason, why
    if facts.repeated and text_hash(text) in facts.repeated:
        return "caption-repeated", "too many images have it"
    why = dissimilar(text, facts, config)
    return None if why is None else ("caption-score", why)


def as_stored(limit: float) -> float:
    """The limit in float32, as scores are stored: a score of 0.29 is not below 0.29."""
    return float(np.float32(limit))


def dissimilar(text: str, facts: Facts, config: Config) -> str | None:
    """What stage `score` says against a clean caption."""
    floors = [as_stored(floor) for floor in (config.min_similarity, facts.similarity_floor) if floor is not None]
    if not floors:
        return None
    if (value := facts.similarity.get(text)) is None:
        return "no similarity: stage score left its picture out"
    return f"similarity {value:.4g}, below {max(floors):.4g}" if value < max(floors) else None


EMPTY = "no-caption"


def image_bytes(facts: Facts, config: Config) -> str | None:
    return f"{facts.bytes} bytes, below {config.min_bytes}" if facts.bytes < config.min_bytes else None


def image_size(facts: Facts, config: Config) -> str | None:
    if min(facts.width, facts.height) >= config.min_side:
        return None
    return f"{facts.width} × {facts.height}, a side is below {config.min_side}"


def image_aspect(facts: Facts, config: Config) -> str | None:
    shorter, longer = sorted((facts.width, facts.height))
    if longer <= config.max_aspect * shorter:
        return None
    return f"{facts.width} × {facts.height}, more than {config.max_aspect:g} to 1"


def image_captions(facts: Facts, config: Config) -> str | None:
    if config.max_image_captions is None or facts.captions <= config.max_image_captions:
        return None
    return f"more than {config.max_image_captions} captions"


def score(facts: Facts, config: Config) -> str | None:
    if config.score_column is None:
        return None
    if facts.score is None:
        return f"no number in column {config.score_column}"
    floors = [floor for floor in (config.min_score, facts.score_floor) if floor is not None]
    floor = max(floors, default=facts.score)
    return f"{config.score_column} is {facts.score:g}, below {floor:g}" if facts.score < floor else None


def with_passed(facts: Facts, captions: Iterable[Caption]) -> Facts:
    """The facts with what was handed to the row: such a caption was similar enough where it was (`deciding`)."""
    passed = {clean(caption["text"]): math.inf for caption in captions}
    return replace(facts, similarity={**passed, **facts.similarity}) if passed else facts


def heads(facts: Facts, config: Config) -> str | None:
    for limit in config.head_limits:
        if (value := facts.heads.get(limit.head)) is None:
            return f"no score of head {limit.head}"
        if limit.least is not None and value < as_stored(limit.least):
            return f"{limit.head} is {value:.4g}, below {limit.least:g}"
        if limit.most is not None and value > as_stored(limit.most):
            return f"{limit.head} is {value:.4g}, above {limit.most:g}"
    return None


IMAGE_RULES: tuple[tuple[str, Callable[[Facts, Config], str | None]], ...] = (
    ("image-bytes", image_bytes),
    ("image-size", image_size),
    ("image-aspect", image_aspect),
    ("image-captions", image_captions),
    ("low-score", score),
    ("image-score", heads),
)


def characters(text: str, lang: str | None, config: Config) -> str | None:
    if config.min_chars <= len(text) <= config.max_chars:
        return None
    return f"{len(text)} characters, not {config.min_chars} to {config.max_chars}"


def words(text: str, lang: str | None, config: Config) -> str | None:
    found = len(_words(text, config))
    if config.min_words <= found <= config.max_words:
        return None
    return f"{found} words, not {config.min_words} to {config.max_words}"


def repetition(text: str, lang: str | None, config: Config) -> str | None:
    if config.max_repetition == 1:
        return None
    found = _words(text.casefold(), config)
    again = 1 - len(set(found)) / len(found) if found else 0.0
    most = config.max_repetition
    return f"{again:.0%} of its words come again, more than {most:.0%}" if again > most + EXACT else None


def _words(text: str, config: Config) -> list[str]:
    return words_of(text) if config.words == "unicode" else text.split()


def letters(text: str, lang: str | None, config: Config) -> str | None:
    if not config.min_letters:
        return None
    seen = [character for character in text if not character.isspace()]
    share = sum(map(_is_letter, seen)) / len(seen)
    return f"{share:.0%} letters, below {config.min_letters:.0%}" if share < config.min_letters else None


def _is_letter(character: str) -> bool:
    return character.isalpha() or unicodedata.category(character).startswith("M")  # a vowel sign, an accent


def markup(text: str, lang: str | None, config: Config) -> str | None:
    if config.allow_markup:
        return None
    found = LINK.search(text) or MARKUP.search(text)
    return f"it has {found[0]!r}" if found else None


def blocked(text: str, lang: str | None, config: Config) -> str | None:
    if config.blocked_words is None:
        return None
    found = blocked_pattern(config.blocked_words).search(_folded(text))
    return "it has a blocked word" if found else None


def language(text: str, lang: str | None, config: Config) -> str | None:
    if not config.languages:
        return None
    if lang:
        given = lang.partition("-")[0].lower()
        found = None if given in config.languages else given
    else:
        found = other_language(text, config.languages, config.language_margin)
    return f"language {found}, not {', '.join(config.languages)}" if found else None


CAPTION_RULES: tuple[tuple[str, Callable[[str, str | None, Config], str | None]], ...] = (
    ("caption-length", characters),
    ("caption-length", words),
    ("caption-repetition", repetition),
    ("caption-letters", letters),
    ("caption-markup", markup),
    ("caption-blocked", blocked),
    ("caption-language", language),
)


@functools.lru_cache(maxsize=4)
def blocked_pattern(file: str) -> regex.Pattern[str]:
    """Matches case-folded text that has one of the file's words or phrases as a whole."""
    lines = _folded(Path(file).read_text(encoding="utf-8")).splitlines()
    listed = [r"\s+".join(map(re.escape, line.split())) for line in lines if line.strip() and not line.startswith("#")]
    return regex.compile(rf"(?<![\w\p{{M}}])(?:{'|'.join(listed)})(?![\w\p{{M}}])" if listed else r"(?!)")


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text.casefold())

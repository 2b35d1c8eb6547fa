"""The settings of curating, and the profiles: the rules of published data sets by name, in profiles/*.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml

from pairloom.errors import ConfigError
from pairloom.typed import Positive, Range, Share, check_ranges
from stages.contract import A_PATH
from stages.curate.languages import CODE

PROFILES = Path(__file__).parent / "profiles"


NEW = {"absent_at_default": True}  # metadata of a setting that changed nothing when it came


@dataclass(frozen=True, kw_only=True)
class HeadLimit:
    """What a head of stage `score` may say of a picture that stays."""

    head: str  # the name of its file in score.heads, without the ending
    least: float | None = None
    most: float | None = None


@dataclass(frozen=True, kw_only=True)
class Config:
    """Section `curate` of params.yaml: a profile, and what differs from it."""

    profile: str = "default"  # a file of stages/curate/profiles. What the section sets besides counts more
    # The image
    min_bytes: Annotated[int, Range(0)] = 0  # size of the image as stored
    min_side: Positive = 64  # pixels of the shorter side of the picture as fetched, upright
    max_aspect: Annotated[float, Range(1)] = 4.0  # longer side / shorter side
    max_image_captions: Positive | None = None  # captions of all rows with these bytes; null: any number
    # Each caption, once it is cleaned. An image goes when none is left
    min_chars: Positive = 1  # characters, "猫" is one
    max_chars: int = 1000  # characters
    min_words: Annotated[int, Range(0)] = 1  # by Unicode's rules. Each character of Chinese and Thai is one
    max_words: int = 256  # counted as for min_words
    # unicode: as min_words says; spaces: whatever stands between spaces, as "&" does, so that a Chinese sentence is one
    words: Literal["unicode", "spaces"] = "unicode"
    max_repetition: Share = 1.0  # share of its words that stand in it before, in small letters or capitals
    min_letters: Share = 0.0  # share of letters among what is no space
    allow_markup: bool = True  # false: no URLs, e-mail addresses, file names, tags or braces
    languages: tuple[str, ...] = ()  # codes such as en; as the list says, else found by py3langid; none: any
    # natural logarithm of how many times as probable another language must be for a caption to go
    language_margin: Annotated[float, Range(0)] = 8.0
    # a text file, a word or phrase a line. A caption that has one goes
    blocked_words: str | None = field(default=None, metadata=A_PATH)
    max_repeats: Positive | None = None  # images of the corpus that may have the same caption
    max_repeat_share: Annotated[float, Range(above=0, most=1)] | None = None  # the same as a share of all images
    # The corpus
    unite_duplicates: bool = True  # rows with the same bytes become one, with all captions as unite_captions says
    # where a duplicate hands its captions over: to an image of its own shard alone, so that a longer list changes no
    # finished one (those of others are counted as captions_lost), or of the whole corpus, so that it does all shards
    # again. Rules that count over the corpus do that anyway, and captions are then handed over in all of it
    unite_captions: Literal["shard", "corpus"] = "shard"
    # bits of 64 by which perceptual hashes of near duplicates differ; null: no such rule
    max_distance: Annotated[int, Range(0, 16)] | None = 4
    # near duplicates differ in no cell of 8 × 8 by more, in Cb and Cr (0 to 255); null: colour does not count
    max_colour_distance: Annotated[float, Range(0)] | None = 40.0
    # tables of hashes, tables of pairs, or folders of images to keep away from
    exclude: tuple[str, ...] = field(default=(), metadata=A_PATH)
    exclude_distance: Annotated[int, Range(0, 16)] = 4  # bits, as max_distance, whatever the colours
    score_column: str | None = None  # a column of the list (in `extra`) with a score by another tool
    min_score: float | None = None  # a row with a lower score goes
    top_share: Annotated[float, Range(above=0, most=1)] | None = None  # of the rows, by score
    # What stage `score` says; with one of these curate reads its table (docs/how-to/score.md)
    # cosine below which a caption goes
    min_similarity: Annotated[float, Range(-1, 1)] | None = field(default=None, metadata=NEW)
    # of all captions as downloaded, by their similarity. The others go
    top_similarity: Annotated[float, Range(above=0, most=1)] | None = field(default=None, metadata=NEW)
    # cosine of two pictures' vectors beyond which one goes, within clusters (SemDeDup). Wants score.image_embedding
    max_cosine: Annotated[float, Range(-1, 1)] | None = field(default=None, metadata=NEW)
    # of k-means, for max_cosine. Null is the square root of how many images there are
    clusters: Positive | None = field(default=None, metadata=NEW)
    # heads by which images go, as {head: nsfw, most: 0.5}
    head_limits: tuple[HeadLimit, ...] = field(default=(), metadata=NEW)
    # what max_image_captions, max_repeats, max_repeat_share and top shares look at: all rows, so that a longer list
    # does all shards again, or those up to the end of a row's own shard, so that it changes no finished one
    counted: Literal["corpus", "so-far"] = "corpus"

    def __post_init__(self) -> None:
        check_ranges(self)
        for noun in ("chars", "words"):
            least, most = getattr(self, f"min_{noun}"), getattr(self, f"max_{noun}")
            if least > most:
                given = f"curate.min_{noun} is {least} and curate.max_{noun} {most}"
                raise ConfigError(given, "params.yaml", f"set min_{noun} to at most max_{noun}")
        if wrong := [code for code in self.languages if not CODE.fullmatch(code)]:
            raise ConfigError(
                f"curate.languages has {wrong[0]!r}", "params.yaml", "write codes of two or three small letters, as en"
            )
        if bool(self.score_column) != (self.min_score is not None or self.top_share is not None):
            raise ConfigError(
                f"curate.score_column is {self.score_column!r}", "params.yaml", "set it with min_score or top_share"
            )
        if self.max_cosine is not None and not self.unite_duplicates:
            given = f"curate.max_cosine is {self.max_cosine} and curate.unite_duplicates false"
            raise ConfigError(given, "params.yaml", "set max_cosine to null, or unite_duplicates to true")
        for asked in self.head_limits:
            if asked.least is None and asked.most is None:
                without = f"curate.head_limits names {asked.head} without a limit"
                raise ConfigError(without, "params.yaml", "write {head: NAME, least: NUMBER} or most, or both")
        if self.max_distance is not None and not self.unite_duplicates:
            given = f"curate.max_distance is {self.max_distance} and curate.unite_duplicates false"
            raise ConfigError(given, "params.yaml", "set max_distance to null, or unite_duplicates to true")

    @property
    def scored(self) -> bool:
        """Whether the table of stage `score` is read."""
        limits = (self.min_similarity, self.top_similarity, self.max_cosine)
        return any(limit is not None for limit in limits) or bool(self.head_limits)

    @property
    def counts_corpus(self) -> bool:
        """Whether a rule needs to know all rows before it can judge one."""
        shares = (self.top_share, self.top_similarity)
        counting = (self.max_image_captions, self.max_repeats, self.max_repeat_share, *shares)
        return self.counted == "corpus" and any(limit is not None for limit in counting)

    @property
    def reads_corpus(self) -> bool:
        """Whether what becomes of a row may depend on any other."""
        unites = self.unite_duplicates and self.unite_captions == "corpus"
        return self.counts_corpus or unites or self.max_cosine is not None

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

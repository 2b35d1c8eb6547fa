"""The rule by which hard negatives are chosen: section `negatives` of params.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pairloom.errors import ConfigError
from pairloom.typed import Positive, Range, Share, check_ranges
from stages.split import Split

Frequency: TypeAlias = Positive | Share  # of a term, in captions: their number, or their share
VetoName: TypeAlias = Literal["captions", "tags", "score"]

VETOES: tuple[VetoName, ...] = get_args(VetoName)  # in the order in which they are asked

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")  # English
PLACES = (
    *("above", "behind", "below", "beneath", "beside", "between", "bottom", "front", "inside", "left", "middle"),
    *("near", "next", "outside", "over", "right", "top", "under"),
)

PARTITIVES = ("of",)
INTERBERT: Mapping[str, Any] = {"against": "caption", "distinct": False, "train_only": False}


@dataclass(frozen=True, kw_only=True)
class Config:
    """For each caption the `top_k` most similar captions with floor < similarity < ceiling.

    Never a caption of the same image, of one that looks the same, of the same normalised text or of another language.
    The rule of InterBERT (arXiv:2003.13198) is `against: interbert`, which stands for INTERBERT.
    """

    # how the similarity of two captions is measured; embedding: the cosine of what stage `score` stored of them
    scorer: Literal["tfidf", "bm25", "embedding"] = "tfidf"
    # a more similar caption may well describe the image too (InterBERT, arXiv:2003.13198)
    ceiling: Annotated[float, Range(above=0)] = 0.5
    # similarity to what: the image, which is the largest to any of its captions, or to the one caption. interbert: to
    # the one caption, and distinct and train_only are false unless they are set
    against: Literal["image", "caption"] = "image"
    top_k: Annotated[int, Range(1, 65535)] = 30  # negatives kept for each caption
    distinct: bool = True  # of captions with equal texts a list has the first only
    train_only: bool = True  # a row to train on has no caption of a held-out image
    # a caption is left out, as it may well be true, whose words are all among those of the image's captions (captions),
    # or whose words for things, numbers and places are all among those of its captions and its tags (tags), or that the
    # model of stage `score` finds similar to the picture (score). A list of them leaves out what any of them does
    veto: Literal["none"] | VetoName | tuple[VetoName, ...] = "none"
    # score: a caption whose cosine to the picture is above it is left out. Models differ in their scale
    veto_similarity: Annotated[float, Range(-1, 1)] | None = field(default=None, metadata={"absent_at_default": True})
    veto_common: Share = 0.1  # captions: a word of more captions than this share says nothing, and counts for nothing
    # tags: words that count beside those of the tags
    veto_words: tuple[str, ...] = field(default=PLACES, metadata={"absent_at_default": True})
    # tags: words for 1, 2, 3 …, which count, too, and are told by how many tags there are of a thing, or in all
    veto_numbers: tuple[str, ...] = field(default=NUMBERS, metadata={"absent_at_default": True})
    # tags: a number before another word that is not checked counts all there is (two things), but before these a part
    veto_partitives: tuple[str, ...] = field(default=PARTITIVES, metadata={"absent_at_default": True})
    # in how many lists one caption may stand, those to which it is most similar; null: in any number
    max_lists: Positive | None = field(default=None, metadata={"absent_at_default": True})
    floor: Annotated[float, Range(0)] = 0.0  # similarity must be above it; 0: at least one term is shared
    min_df: Frequency = 1  # a term of fewer captions is ignored; whole number: captions, fraction: share of them
    max_df: Frequency = 1.0  # a term of more captions is ignored
    ngram_range: tuple[Positive, Positive] = (1, 1)  # terms are runs of that many words
    unspaced: Literal["bigrams", "words"] = "bigrams"  # how scripts without spaces (Chinese, Thai, …) are cut
    # bits of 64 by which perceptual hashes of images that count as one differ; null: none
    near_distance: Annotated[int, Range(0, 16)] | None = 4
    # they differ in no cell of 8 × 8 by more, in Cb and Cr (0 to 255); null: colour does not count
    near_colour_distance: Annotated[float, Range(0)] | None = 40.0
    # frozen: that of the last full build, so that growth costs little
    idf: Literal["recomputed", "frozen"] = "recomputed"
    # embedding: where vectors are multiplied: cpu, cuda, cuda:1, … (auto: cuda where there is one)
    device: str = field(default="auto", metadata={"affects_output": False})
    seed: int = 0  # of the split, that of section shards
    val_share: Share = 0.0  # of the images that are held out, that of section shards
    split_from: str | None = None  # name in `extra` of the split that the list gives, that of section shards

    @staticmethod
    def expanded(section: Mapping[str, Any]) -> dict[str, Any]:
        """The section without the name of the published rule."""
        if section.get("against") != "interbert":
            return dict(section)
        return {**INTERBERT, **section, "against": "caption"}

    @property
    def vetoes(self) -> tuple[VetoName, ...]:
        """The names in `veto`, in the order of VETOES."""
        given = self.veto if isinstance(self.veto, tuple) else (self.veto,)
        return tuple(name for name in VETOES if name in given)

    @property
    def split(self) -> Split:
        return Split(seed=self.seed, val_share=self.val_share, split_from=self.split_from)

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.floor >= self.ceiling:
            given = f"negatives.floor is {self.floor} and negatives.ceiling {self.ceiling}"
            raise ConfigError(given, "params.yaml", "set 0 ≤ floor < ceiling")
        # one spelling of each choice, so that another one makes no shard due
        object.__setattr__(self, "veto", self.vetoes if len(self.vetoes) > 1 else "".join(self.vetoes) or "none")
        if "score" in self.vetoes and self.veto_similarity is None:
            fix = "set it; `top` of metrics/facts/score.json says how similar pictures and their own captions are"
            raise ConfigError("negatives.veto has score without negatives.veto_similarity", "params.yaml", fix)
        if self.vetoes and self.against != "image":
            given = f"negatives.veto is {', '.join(self.vetoes)} and negatives.against {self.against}"
            raise ConfigError(given, "params.yaml", "set against: image, or veto: none")
        if self.ngram_range[0] > self.ngram_range[1]:
            given = f"negatives.ngram_range is {list(self.ngram_range)}"
            raise ConfigError(given, "params.yaml", "set the shorter first, for example [1, 2]")

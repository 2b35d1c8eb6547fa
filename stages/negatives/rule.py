"""The rule by which hard negatives are chosen: section `negatives` of params.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from pairloom.errors import ConfigError
from pairloom.typed import Positive, Range, Share, check_ranges
from stages.split import Split

Frequency: TypeAlias = Positive | Share  # of a term, in captions: their number, or their share


@dataclass(frozen=True, kw_only=True)
class Config:
    """For each caption the `top_k` most similar captions with floor < similarity < ceiling.

    Never a caption of the same image, of one that looks the same, of the same normalised text or of another language.
    The rule of InterBERT (arXiv:2003.13198) is `against: caption, distinct: false, train_only: false`.
    """

    scorer: Literal["tfidf", "bm25"] = "tfidf"  # how the similarity of two captions is measured
    # a more similar caption may well describe the image too (InterBERT, arXiv:2003.13198)
    ceiling: Annotated[float, Range(above=0)] = 0.5
    # similarity to what: the image, which is the largest to any of its captions, or to the one caption
    against: Literal["image", "caption"] = "image"
    top_k: Annotated[int, Range(1, 65535)] = 30  # negatives kept for each caption
    distinct: bool = True  # of captions with equal texts a list has the first only
    train_only: bool = True  # a row to train on has no caption of a held-out image
    # captions: a caption is left out whose words are all among those of the image's captions; it may well be true
    veto: Literal["none", "captions"] = "none"
    veto_common: Share = 0.1  # a word of more captions than this share says nothing, and counts for nothing there
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
    seed: int = 0  # of the split; that of section shards
    val_share: Share = 0.0  # of the images that are held out; that of section shards
    split_from: str | None = None  # name in `extra` of the split that the list gives; that of section shards

    @property
    def split(self) -> Split:
        return Split(seed=self.seed, val_share=self.val_share, split_from=self.split_from)

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.floor >= self.ceiling:
            given = f"negatives.floor is {self.floor} and negatives.ceiling {self.ceiling}"
            raise ConfigError(given, "params.yaml", "set 0 ≤ floor < ceiling")
        if self.veto == "captions" and self.against != "image":
            given = f"negatives.veto is {self.veto} and negatives.against {self.against}"
            raise ConfigError(given, "params.yaml", "set against: image, or veto: none")
        if self.ngram_range[0] > self.ngram_range[1]:
            given = f"negatives.ngram_range is {list(self.ngram_range)}"
            raise ConfigError(given, "params.yaml", "set the shorter first, for example [1, 2]")

"""The rule by which hard negatives are chosen: section `negatives` of params.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pairloom.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Config:
    """For each caption the `top_k` most similar captions with floor < similarity < ceiling.

    Never a caption of the same image, of one that looks the same, of the same normalised text or of another language.
    """

    scorer: Literal["tfidf", "bm25"] = "tfidf"
    ceiling: float = 0.5  # a more similar caption may well describe the image too (InterBERT, arXiv:2003.13198)
    top_k: int = 30
    floor: float = 0.0  # 0: at least one term is shared
    min_df: int | float = 1  # a term of fewer captions is ignored; whole number: captions, fraction: share of them
    max_df: int | float = 1.0  # a term of more captions is ignored
    ngram_range: tuple[int, int] = (1, 1)  # terms are runs of that many words
    unspaced: Literal["bigrams", "words"] = "bigrams"  # how scripts without spaces (Chinese, Thai, …) are cut
    near_distance: int | None = (
        4  # bits of 64 by which perceptual hashes of images that count as one differ; null: none
    )
    idf: Literal["recomputed", "frozen"] = (
        "recomputed"  # frozen: that of the last full build, so that growth costs little
    )

    def __post_init__(self) -> None:
        _require(0 <= self.floor < self.ceiling, self, "floor", "set 0 ≤ floor < ceiling")
        _require(1 <= self.top_k <= 65535, self, "top_k", "set it from 1 to 65535")
        _require(_is_frequency(self.min_df), self, "min_df", "set a whole number ≥ 1, or a fraction from 0.0 to 1.0")
        _require(_is_frequency(self.max_df), self, "max_df", "set a whole number ≥ 1, or a fraction from 0.0 to 1.0")
        near = self.near_distance
        _require(near is None or 0 <= near <= 16, self, "near_distance", "set it from 0 to 16, or null")
        _require(1 <= self.ngram_range[0] <= self.ngram_range[1], self, "ngram_range", "set for example [1, 2]")


def _is_frequency(value: int | float) -> bool:
    return value >= 1 if isinstance(value, int) else 0 <= value <= 1


def _require(good: bool, config: Config, name: str, fix: str) -> None:
    if not good:
        raise ConfigError(f"negatives.{name} is {getattr(config, name)!r}", "params.yaml", fix)

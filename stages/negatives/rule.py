"""The rule by which hard negatives are chosen: section `negatives` of params.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from schemas.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Config:
    """For each caption the `top_k` most similar captions of other images with floor < similarity < ceiling."""

    scorer: Literal["tfidf", "bm25"] = "tfidf"
    ceiling: float = 0.5  # a more similar caption may well describe the image too (InterBERT, arXiv:2003.13198)
    top_k: int = 30
    floor: float = 0.0  # 0: at least one term is shared
    min_df: int | float = 1  # a term of fewer captions is ignored; whole number: captions, fraction: share of them
    max_df: int | float = 1.0  # a term of more captions is ignored
    ngram_range: tuple[int, int] = (1, 1)  # terms are runs of that many words
    unspaced: Literal["bigrams", "words"] = "bigrams"  # how scripts without spaces (Chinese, Thai, …) are cut

    def __post_init__(self) -> None:
        _require(0 <= self.floor < self.ceiling, self, "floor", "set 0 ≤ floor < ceiling")
        _require(1 <= self.top_k <= 65535, self, "top_k", "set it from 1 to 65535")
        _require(_is_frequency(self.min_df), self, "min_df", "set a whole number ≥ 1, or a fraction from 0.0 to 1.0")
        _require(_is_frequency(self.max_df), self, "max_df", "set a whole number ≥ 1, or a fraction from 0.0 to 1.0")
        _require(1 <= self.ngram_range[0] <= self.ngram_range[1], self, "ngram_range", "set for example [1, 2]")


def _is_frequency(value: int | float) -> bool:
    return value >= 1 if isinstance(value, int) else 0 <= value <= 1


def _require(good: bool, config: Config, name: str, fix: str) -> None:
    if not good:
        raise ConfigError(f"negatives.{name} is {getattr(config, name)!r}", "params.yaml", fix)

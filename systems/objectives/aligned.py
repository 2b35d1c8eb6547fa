"""Objective `aligned`: words hidden that name what a crop shows, unless that is hidden itself (Kaleido-BERT, 3.3, 3.4).

The authors' pairs of words and crops come from a captioner's attention. The aligner was never released, and how it
chose is not published. Here a pair is a word of a tag that the text has too, with the crop of each level that its tag's
region overlaps most. As published, of each chosen pair either the word or the crop is hidden, never both, and what
pairs do not fill is random. Name it before the objectives that draw crops: they take its wishes (`placing.preferred`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from pairloom.errors import ConfigError
from pairloom.loader.batch import Example, Regions, Words
from pairloom.loader.make import Make
from pairloom.loader.row import Row
from pairloom.table import Array
from pairloom.typed import Positive, Share, check_ranges
from systems.objectives.masking import draw_places, hide_words
from systems.objectives.mlm import Head, loss
from systems.objectives.placing import DRAWN, SPARED, WISHES
from systems.units.regions import seven
from trainer.contract import Fusion, Shapes

__all__ = ["Settings", "columns", "head", "loss", "prepare"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """probability: share of the words to be hidden, at least one. levels: [first crop, how many, how many pairs].

    matched_only: as in mlm.
    """

    probability: Share
    levels: tuple[tuple[int, Positive, Positive], ...]
    matched_only: bool = False

    def __post_init__(self) -> None:
        check_ranges(self)
        if any(pairs > count for _, count, pairs in self.levels):
            raise ConfigError(
                f"aligned.levels are {[list(level) for level in self.levels]}",
                where="the recipe",
                fix="name first crop, number of crops and at most as many pairs for each level",
            )


def columns(settings: Settings) -> tuple[str, ...]:
    return ("tags", "boxes", "num_regions", "width", "height")


def head(settings: Settings, model: Fusion, shapes: Shapes) -> Head:
    """As mlm's."""
    return Head(model, shapes.vocab_size)


def prepare(example: Example, row: Row, make: Make, settings: Settings, rng: np.random.Generator) -> Example:
    """Words hidden, and a wish for each crop: DRAWN, SPARED because its word is hidden, or none."""
    if make.tokenizer.mask is None:
        raise ConfigError("the vocabulary has no mask token", "objective aligned", "name one that has [MASK] or <mask>")
    assert isinstance(example.units, Regions)
    words, boxes_R7 = example.words, example.units.boxes_R7
    named = list(_named(words, row, make))
    wishes_R, word_wishes = toss(named, boxes_R7, settings, rng)
    chosen_T = hidden(words.word_ids_T, word_wishes, settings.probability, rng)
    masked = hide_words(words, make.tokenizer, chosen_T, rng)
    return replace(example, words=masked).with_targets(**{WISHES: wishes_R})


def _named(words: Words, row: Row, make: Make) -> Iterator[tuple[int, Array]]:
    """(word of the text, 7-d box of the region whose tag has it too), each pair once."""
    boxes_R7 = seven(row.numbers("boxes"), row.value("width"), row.value("height"))
    found, seen = occurrences(words), set[tuple[int, int]]()
    for text, region in row.tagged():
        for name in text.split():
            for word in found.get(_pieces(name, row, make), ()):
                if (word, region) not in seen:
                    seen.add((word, region))
                    yield word, boxes_R7[region]


def occurrences(words: Words) -> dict[tuple[int, ...], list[int]]:
    """The tokens of a word -> the words that consist of just these."""
    tokens: dict[int, list[int]] = {}
    for token, word in zip(words.ids_T.tolist(), words.word_ids_T.tolist(), strict=True):
        if word >= 0:
            tokens.setdefault(word, []).append(token)
    found: dict[tuple[int, ...], list[int]] = {}
    for word, pieces in sorted(tokens.items()):
        found.setdefault(tuple(pieces), []).append(word)
    return found


def _pieces(name: str, row: Row, make: Make) -> tuple[int, ...]:
    """The tokens of a tag's word. A row group has few tags, each many times."""

    def pieces() -> tuple[int, ...]:
        words = make.tokenizer.words(name)
        return tuple(words.ids_T[words.word_ids_T >= 0].tolist())

    kept: tuple[int, ...] = row.group.cached((make.tokenizer, name), pieces)
    return kept


def toss(
    named: list[tuple[int, Array]], boxes_R7: Array, settings: Settings, rng: np.random.Generator
) -> tuple[Array, dict[int, int]]:
    """(a wish for each crop, one for each word of a chosen pair): a coin for each pair of each level, word or crop.

    A word or a crop of several chosen pairs keeps the side of its first coin; where that would hide a pair whole, its
    crop is spared.
    """
    wishes_R, words = np.zeros(len(boxes_R7), np.int64), dict[int, int]()
    for first, count, pairs in settings.levels:
        crops_R7 = boxes_R7[first : first + count]
        for number in rng.permutation(len(named))[:pairs].tolist():
            word, box_7 = named[number]
            crop = first + int(shared(crops_R7, box_7).argmax())
            side = words.setdefault(word, -int(wishes_R[crop]) or int(rng.choice([DRAWN, SPARED])))
            wishes_R[crop] = SPARED if side == DRAWN else wishes_R[crop] or DRAWN
    return wishes_R, words


def shared(crops_R7: Array, box_7: Array) -> Array:
    """(R,) area that each crop shares with the box, as a share of the image."""
    sides = np.minimum(crops_R7[:, 2:4], box_7[2:4]) - np.maximum(crops_R7[:, :2], box_7[:2])
    area: Array = sides.clip(min=0).prod(axis=1)
    return area


def hidden(word_ids_T: Array, wishes: dict[int, int], probability: float, rng: np.random.Generator) -> Array:
    """(T,) bool, tokens of the words to be hidden: as many words as are drawn one by one, those wished for first."""
    numbers = np.unique(word_ids_T[word_ids_T >= 0])
    count = int(draw_places(np.ones(len(numbers), bool), probability, rng).sum())
    order = rng.permutation(numbers)
    ranks = np.array([-wishes.get(int(word), 0) for word in order])
    first = order[np.argsort(ranks, kind="stable")][:count]
    chosen = [word for word in first.tolist() if wishes.get(word, 0) != SPARED]
    found: Array = np.isin(word_ids_T, chosen) & (word_ids_T >= 0)
    return found

"""Objective `aligned`: words hidden that name what a crop shows, unless that is hidden itself (Kaleido-BERT, 3.3, 3.4).

The authors' pairs of words and crops come from a captioner's attention. The aligner was never released, and how it
chose is not published. Here a pair is a word of a tag that the text has too, with the crop of each level that its tag's
region overlaps most. As published, of each chosen pair either the word or the crop is hidden, never both, and what
pairs do not fill is random. Name it before the objectives that draw crops: they take its wishes (`placing.preferred`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pairloom.errors import ConfigError
from pairloom.loader.draws import Draws
from pairloom.loader.examples import Examples, RegionColumns, spans
from pairloom.loader.make import Make
from pairloom.loader.row import Row
from pairloom.table import Array
from pairloom.typed import Positive, Share, check_ranges
from systems.objectives.drawing import draw_places
from systems.objectives.masking import hide_all_words
from systems.objectives.mlm import Head, loss
from systems.objectives.placing import DRAWN, SPARED, WISHES
from systems.units.regions import boxes_of
from trainer.contract import Fusion, Shapes

__all__ = ["Settings", "columns", "head", "loss", "prepare_all"]


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


def prepare_all(examples: Examples, make: Make, settings: Settings, draws: Draws) -> Examples:
    """Words hidden, and a wish for each crop: DRAWN, SPARED because its word is hidden, or none."""
    if make.tokenizer.mask is None:
        raise ConfigError("the vocabulary has no mask token", "objective aligned", "name one that has [MASK] or <mask>")
    regions, ids, word_ids = examples.regions(), examples.words.ids_T.tolist(), examples.words.word_ids_T.tolist()
    texts = [(ids[start:end], word_ids[start:end]) for start, end in spans(examples.word_counts)]
    named = [_named(*text, row, make) for text, row in zip(texts, draws.rows, strict=True)]
    crops = _closest_crops(named, regions, draws.rows, settings)
    wishes, chosen = [], []
    for (_, words), pairs, number, rng in zip(texts, crops, regions.counts, draws.rngs, strict=True):
        wishes_R, word_wishes = toss(pairs, number, settings, rng)
        wishes.append(wishes_R)
        chosen.append(hidden(words, word_wishes, settings.probability, rng))
    masked = hide_all_words(examples.words, examples.word_counts, make.tokenizer, chosen, draws.rngs)
    return replace(examples, words=masked).with_targets(**{WISHES: wishes})


def _named(ids: list[int], word_ids: list[int], row: Row, make: Make) -> list[tuple[int, int]]:
    """(word of the text, region of the row's image whose tag has it too), each pair once."""
    found = occurrences(ids, word_ids)
    pairs = (
        (word, region)
        for text, region in row.tagged()
        for name in text.split()
        for word in found.get(_pieces(name, row, make), ())
    )
    return list(dict.fromkeys(pairs))


def _closest_crops(
    named: Sequence[Sequence[tuple[int, int]]], regions: RegionColumns, rows: Sequence[Row], settings: Settings
) -> list[list[tuple[int, list[int]]]]:
    """Of each row's pairs: the word, and of each level the crop that the pair's region overlaps most."""
    of_row = [number for number, pairs in enumerate(named) for _ in pairs]
    if not of_row:
        return [[] for _ in named]
    boxes = [
        boxes_of(row.group, row.row)[region] for row, pairs in zip(rows, named, strict=True) for _, region in pairs
    ]
    crops_BR7 = regions.columns["boxes_R7"].reshape(len(named), -1, 7)
    found = iter(closest(crops_BR7[of_row], np.stack(boxes), settings).tolist())
    return [[(word, next(found)) for word, _ in pairs] for pairs in named]


def closest(crops_NR7: Array, boxes_N7: Array, settings: Settings) -> Array:
    """(N, levels) the crop of each level that shares most of its area with the box, the first of equal ones."""
    shared_NR = shared(crops_NR7, boxes_N7[:, None])
    levels = [first + shared_NR[:, first : first + count].argmax(axis=1) for first, count, _ in settings.levels]
    return np.stack(levels, axis=1)


def occurrences(ids: list[int], word_ids: list[int]) -> dict[tuple[int, ...], list[int]]:
    """The tokens of a word -> the words that consist of just these."""
    tokens: dict[int, list[int]] = {}
    for token, word in zip(ids, word_ids, strict=True):
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
    named: Sequence[tuple[int, Sequence[int]]], crops: int, settings: Settings, rng: np.random.Generator
) -> tuple[Array, dict[int, int]]:
    """(a wish for each crop, one for each word of a chosen pair): a coin for each pair of each level, word or crop.

    named: pairs of a word and its crop of each level. crops: how many there are. A word or a crop of several chosen
    pairs keeps the side of its first coin; where that would hide a pair whole, its crop is spared.
    """
    wishes, words = [0] * crops, dict[int, int]()
    for level, (_, _, pairs) in enumerate(settings.levels):
        for number in rng.permutation(len(named))[:pairs].tolist():
            word, crop = named[number][0], named[number][1][level]
            side = words.setdefault(word, -wishes[crop] or (DRAWN, SPARED)[rng.integers(2)])
            wishes[crop] = SPARED if side == DRAWN else wishes[crop] or DRAWN
    return np.array(wishes, np.int64), words


def shared(crops_R7: Array, box_7: Array) -> Array:
    """(R,) area that each crop shares with the box, as a share of the image. Of several boxes: (N, 1, 7), (N, R, 7)."""
    sides = np.minimum(crops_R7[..., 2:4], box_7[..., 2:4]) - np.maximum(crops_R7[..., :2], box_7[..., :2])
    area: Array = sides.clip(min=0).prod(axis=-1)
    return area


def hidden(word_ids: list[int], wishes: dict[int, int], probability: float, rng: np.random.Generator) -> Array:
    """(T,) bool, tokens of the words to be hidden: as many words as are drawn one by one, those wished for first."""
    numbers = sorted({word for word in word_ids if word >= 0})
    count = int(draw_places(np.ones(len(numbers), bool), probability, rng).sum())
    order = rng.permutation(np.array(numbers, np.int64)).tolist()
    first = sorted(order, key=lambda word: -wishes.get(word, 0))[:count]
    chosen = {word for word in first if wishes.get(word, 0) != SPARED}
    return np.array([word in chosen for word in word_ids], bool)

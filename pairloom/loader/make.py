"""What makes an example of a row, and a batch of examples: by a recipe's units, objectives and tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
import torch

from pairloom.loader.batch import Batch, Example, Words
from pairloom.loader.buffers import Empty
from pairloom.loader.collate import collate
from pairloom.loader.draws import Draws
from pairloom.loader.examples import Examples, RegionColumns, each
from pairloom.loader.options import Resize
from pairloom.loader.pair import Pair
from pairloom.loader.plan import Part
from pairloom.loader.row import Row
from pairloom.loader.texts import Texts
from pairloom.loader.tokenizer import Tokenizer

STRINGS: dict[str, Callable[[Row], Any]] = {
    "captions": lambda row: row.text,
    "tags": lambda row: tuple(text for text, _ in row.tagged()),
    "negatives": lambda row: tuple(row.negatives()),
}


def is_apart(part: Part) -> bool:
    """Whether the objective has a pass of the model to itself. A plan of another program need not say."""
    return bool(getattr(part, "apart", False))


def in_passes(objectives: Iterable[Part]) -> tuple[list[Part], list[Part]]:
    """Those that share the first pass of their step, and those that have one each."""
    parts = list(objectives)
    return [part for part in parts if not is_apart(part)], [part for part in parts if is_apart(part)]


class Assembler(Protocol):
    """Makes examples of rows and batches of examples: `Make` by a recipe, columns.ColumnMake without one."""

    def resizes(self, objectives: Iterable[Part]) -> bool:
        """Whether a row made ready for these objectives may have another length than without them."""

    def lengths(self, objectives: Iterable[Part], draws: Draws) -> list[tuple[int, int]]:
        """Words and units of each row when it is ready for these objectives, for batches of so many tokens."""

    def ready(self, objectives: Iterable[Part], draws: Draws) -> Any:
        """The rows, of which is drawn, made ready for these objectives."""

    def collate(self, examples: Any, empty: Empty, dtype: str | None = None) -> Any:
        """A batch. Raises DamagedError where values that still lie in a shard are not what was written."""

    def in_bfloat16(self, batch: Any) -> Any:
        """The batch with its features in bfloat16, which numpy has not."""


@dataclass(frozen=True)
class Make:
    """Makes examples: tokens of a text, units of an image. Augmented or not."""

    tokenizer: Tokenizer
    units: Part
    augment: bool
    second: Literal["none", "tags"] = "none"  # what follows a caption
    strings: tuple[str, ...] = ()  # that an example holds, too: of STRINGS
    resize: Resize = "loader"  # where pictures are
    texts: Texts | None = None  # without images, for rows of text alone; None: their captions stand for such

    def pair(self, row: Row) -> Pair:
        """The row's own caption and image."""
        return Pair(row, row, row.text, row.tags() if self.second == "tags" else None)

    def resizes(self, objectives: Iterable[Part]) -> bool:
        """Whether one of these pairs a row anew, or says that its `prepare` changes the number of words."""
        return any(hasattr(part.module, "pair") or self._rewrites(part) for part in objectives)

    def _rewrites(self, part: Part) -> bool:
        if is_apart(part) and hasattr(part.module, "pair"):
            return True  # its pair is drawn after what the first pass has drawn
        alone = self.texts is not None and getattr(part.module, "text_alone", None)
        asked = (getattr(part.module, "resizes", None), alone)
        return any(ask(part.settings) for ask in asked if ask)

    def lengths(self, objectives: Iterable[Part], draws: Draws) -> list[tuple[int, int]]:
        """Words and units of each row when it is ready for these objectives. Pictures count as no unit.

        Where making it ready decodes a picture, a text that `prepare` changes counts as the longest that there may be.
        """
        count = getattr(self.units.module, "length", None)  # pixels have none
        objectives = list(objectives)
        if any(self._rewrites(part) for part in objectives):
            if count is None:
                return [(self.tokenizer.max_tokens + 1, 0)] * len(draws.rows)  # one more: seq2seq ends twice
            return self.ready(objectives, draws).lengths()
        pairs = self.paired(objectives, draws)
        _, words = self._words(pairs)
        units = [0 if count is None else int(count(pair.image, self.units.settings)) for pair in pairs]
        return list(zip(words, units, strict=True))

    def paired(self, objectives: Iterable[Part], draws: Draws) -> list[Pair]:
        """What goes together for these objectives, of each row."""
        pairs = [self.pair(row) for row in draws.rows]
        for part in objectives:
            if change := getattr(part.module, "pair", None):
                pairs = [change(pair, part.settings, rng) for pair, rng in zip(pairs, draws.rngs, strict=True)]
        return pairs

    def __call__(self, pairs: Sequence[Pair], draws: Draws | None = None) -> Examples:
        """Nothing hidden yet. The augmentation is drawn. It needs no draws where nothing is augmented."""
        rows = [pair.row for pair in pairs]
        words, word_counts = self._words(pairs)
        return Examples(
            image_ids=[row.image_id for row in rows],
            caption_indices=[row.caption_index for row in rows],
            words=words,
            word_counts=word_counts,
            units=self._units([pair.image for pair in pairs], draws),
            mismatch=[pair.mismatch for pair in pairs],
            questions=[pair.question for pair in pairs],
            others=[tuple(map(self.tokenizer.words, row.texts[1:])) for row in rows],
        )

    def _words(self, pairs: Sequence[Pair]) -> tuple[Words, list[int]]:
        return self.tokenizer.many([pair.text for pair in pairs], [pair.second for pair in pairs])

    def _units(self, images: Sequence[Row], draws: Draws | None) -> RegionColumns | list[Any]:
        module, settings = self.units.module, self.units.settings
        if hasattr(module, "load_all"):
            columns: RegionColumns = module.load_all(images, settings)
            return columns
        rngs = draws.rngs if self.augment and draws is not None else [None] * len(images)
        load = module.load_unresized if self.resize == "device" else module.load
        return [load(image, settings, rng) for image, rng in zip(images, rngs, strict=True)]

    def alone(self, example: Example, rng: np.random.Generator) -> Example:
        """The example with a text that has no image in its caption's place, if there are such texts."""
        return example if self.texts is None else replace(example, words=self.tokenizer.words(self.texts.draw(rng)))

    def all_alone(self, examples: Examples, draws: Draws) -> Examples:
        """The same of all rows of a batch."""
        if self.texts is None:
            return examples
        return self._reworded(examples, [self.texts.draw(rng) for rng in draws.rngs])

    def without_words(self, examples: Examples) -> Examples:
        """The examples with an empty text."""
        return self._reworded(examples, [""] * len(examples))

    def _reworded(self, examples: Examples, texts: Sequence[str]) -> Examples:
        words, counts = self.tokenizer.many(texts, [None] * len(texts))
        return replace(examples, words=words, word_counts=counts)

    def ready(self, objectives: Iterable[Part], draws: Draws) -> Examples:
        """The rows made ready for these objectives, and once more for each that is apart."""
        together, apart = in_passes(objectives)
        examples = self._ready(together, draws)
        examples.apart = tuple(self._ready([part], draws) for part in apart)
        if self.strings:
            examples.strings = {name: [STRINGS[name](row) for row in draws.rows] for name in self.strings}
        return examples

    def _ready(self, objectives: Sequence[Part], draws: Draws) -> Examples:
        """For one pass: first each objective says what goes together, then each what is hidden."""
        examples = self(self.paired(objectives, draws), draws)
        for part in objectives:
            if prepare_all := getattr(part.module, "prepare_all", None):
                examples = prepare_all(examples, self, part.settings, draws)
            elif hasattr(part.module, "prepare"):
                examples = self._prepared(examples, part, draws)
        return examples

    def _prepared(self, examples: Examples, part: Part, draws: Draws) -> Examples:
        """The rows prepared one by one."""
        prepare, settings = part.module.prepare, part.settings
        return each(examples, lambda i, one: prepare(one, draws.rows[i], self, settings, draws.rngs[i]))

    def collate(self, examples: Examples, empty: Empty = np.empty, dtype: str | None = None) -> Batch:
        """The examples as a batch, padded by the tokenizer's id."""
        return collate(examples, self.tokenizer.pad, empty, dtype)

    def in_bfloat16(self, batch: Batch) -> Batch:
        """The batch with its regions' features in bfloat16."""
        if batch.regions is None:
            return batch
        features = batch.regions.features_BRD.to(torch.bfloat16)
        apart = tuple(self.in_bfloat16(part) for part in batch.apart)
        return replace(batch, regions=replace(batch.regions, features_BRD=features), apart=apart)

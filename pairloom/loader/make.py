"""What makes an example of a row, and a batch of examples: by a recipe's units, objectives and tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
import torch

from pairloom.loader.batch import Batch, Example, Regions
from pairloom.loader.buffers import Empty
from pairloom.loader.collate import collate
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


class Assembler(Protocol):
    """Makes examples of rows and batches of examples: `Make` by a recipe, columns.ColumnMake without one."""

    def resizes(self, objectives: Iterable[Part]) -> bool:
        """Whether a row made ready for these objectives may have another length than without them."""

    def lengths(self, row: Row, objectives: Iterable[Part], rng: np.random.Generator) -> tuple[int, int]:
        """Words and units of the row when it is ready for these objectives, for batches of so many tokens."""

    def ready(self, row: Row, objectives: Iterable[Part], rng: np.random.Generator) -> Any:
        """An example: the row made ready for these objectives."""

    def collate(self, examples: Sequence[Any], empty: Empty, dtype: str | None = None) -> Any:
        """A batch. Raises DamagedError where values that still lie in a shard are not what was written."""

    def in_bfloat16(self, batch: Any) -> Any:
        """The batch with its features in bfloat16, which numpy has not."""


@dataclass(frozen=True)
class Make:
    """Makes examples: tokens of a text, units of an image; augmented or not."""

    tokenizer: Tokenizer
    units: Part
    augment: bool
    second: Literal["none", "tags"] = "none"  # what follows a caption
    strings: tuple[str, ...] = ()  # that an example holds, too: of STRINGS
    texts: Texts | None = None  # without images, for rows of text alone; None: their captions stand for such

    def pair(self, row: Row) -> Pair:
        """The row's own caption and image."""
        return Pair(row, row, row.text, row.tags() if self.second == "tags" else None)

    def resizes(self, objectives: Iterable[Part]) -> bool:
        """Whether one of these pairs a row anew, or says that its `prepare` changes the number of words."""
        return any(hasattr(part.module, "pair") or self._rewrites(part) for part in objectives)

    def _rewrites(self, part: Part) -> bool:
        alone = self.texts is not None and getattr(part.module, "text_alone", None)
        asked = (getattr(part.module, "resizes", None), alone)
        return any(ask(part.settings) for ask in asked if ask)

    def lengths(self, row: Row, objectives: Iterable[Part], rng: np.random.Generator) -> tuple[int, int]:
        """Words and units of the row when it is ready for these objectives. Pictures count as no unit.

        Where making it ready decodes a picture, a text that `prepare` changes counts as the longest that there may be.
        """
        count = getattr(self.units.module, "length", None)  # pixels have none
        objectives = list(objectives)
        if not any(self._rewrites(part) for part in objectives):
            pair = self.paired(row, objectives, rng)
            words = self.tokenizer.words(pair.text, pair.second)
            return len(words.ids_T), 0 if count is None else int(count(pair.image, self.units.settings))
        if count is None:
            return self.tokenizer.max_tokens + 1, 0  # one more: seq2seq ends twice
        example = self.ready(row, objectives, rng)
        assert isinstance(example.units, Regions)
        return len(example.words.ids_T), len(example.units.boxes_R7)

    def paired(self, row: Row, objectives: Iterable[Part], rng: np.random.Generator) -> Pair:
        """What goes together for these objectives."""
        pair = self.pair(row)
        for part in objectives:
            if hasattr(part.module, "pair"):
                pair = part.module.pair(pair, part.settings, rng)
        return pair

    def __call__(self, pair: Pair, rng: np.random.Generator) -> Example:
        """Nothing hidden yet. rng draws the augmentation."""
        units = self.units.module.load(pair.image, self.units.settings, rng if self.augment else None)
        words = self.tokenizer.words(pair.text, pair.second)
        example = Example(
            pair.row.image_id, pair.row.caption_index, words, units, pair.mismatch, question=pair.question
        )
        others = tuple(self.tokenizer.words(text) for text in pair.row.texts[1:])
        return replace(example, others=others) if others else example

    def alone(self, example: Example, rng: np.random.Generator) -> Example:
        """The example with a text that has no image in its caption's place, if there are such texts."""
        return example if self.texts is None else replace(example, words=self.tokenizer.words(self.texts.draw(rng)))

    def ready(self, row: Row, objectives: Iterable[Part], rng: np.random.Generator) -> Example:
        """The row made ready for these objectives: first each says what goes together, then each what is hidden."""
        example = self(self.paired(row, objectives, rng), rng)
        for part in objectives:
            example = part.module.prepare(example, row, self, part.settings, rng)
        return (
            replace(example, strings={name: STRINGS[name](row) for name in self.strings}) if self.strings else example
        )

    def collate(self, examples: Sequence[Example], empty: Empty, dtype: str | None = None) -> Batch:
        """The examples as a batch, padded by the tokenizer's id."""
        return collate(examples, self.tokenizer.pad, empty, dtype)

    def in_bfloat16(self, batch: Batch) -> Batch:
        """The batch with its regions' features in bfloat16."""
        if batch.regions is None:
            return batch
        features = batch.regions.features_BRD.to(torch.bfloat16)
        return replace(batch, regions=replace(batch.regions, features_BRD=features))

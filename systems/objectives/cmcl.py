"""Objective `cmcl`: an image tells true texts from rewritten and mined ones (UNIMO, arXiv:2012.15409, section 3.2).

Beside the pairs, texts like the caption that other images have, encoded without an image, are positives of the image
encoded without a text, and images like the row's are positives of its caption alone (retrieved.py). K texts of a row
that are seen with its image, its caption first. N of those that are not, and S the scores of these that are there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pairloom.errors import ConfigError
from pairloom.loader.batch import Batch, Example, map_tensors
from pairloom.loader.make import Make
from pairloom.loader.row import Row
from pairloom.typed import Range, check_ranges
from systems.layers import initialised
from systems.objectives import retrieved
from systems.objectives.itm import every_pair, negative_text
from trainer.contract import Encoded, Fusion, Scored, Shapes
from trainer.precision import as_float32


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How many texts each image is compared with, beside its own caption.

    positives: captions of the image of the kind `paraphrases`, as the paper's translations there and back. An image
    without any takes its other captions, and one with one caption repeats it. mined: most similar captions of other
    images. rewritten: its own with one object, attribute or relation replaced by another; where there is none, a mined
    or random one. retrieved: texts of other images that are like the caption (column `similar`), drawn without
    repetition, seen alone; where it has fewer, these are all, perhaps none. retrieved_images: the same of images that
    are like the row's (column `neighbours`).
    product: how the image alone and such a text make a score. The paper says product, but not of what length, and
    nothing holds a dot product down, for no text that is seen alone is a negative: with it the loss can fall by all
    texts and images growing alike.
    """

    positives: Annotated[int, Range(0)]
    mined: Annotated[int, Range(0)]
    rewritten: Annotated[int, Range(0)]
    temperature: float
    retrieved: Annotated[int, Range(0)] = 0
    retrieved_images: Annotated[int, Range(0)] = 0
    paraphrases: str = "paraphrase"
    product: Literal["cosine", "dot"] = "cosine"

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.mined + self.rewritten == 0:
            raise ConfigError("cmcl has 0 mined and 0 rewritten texts", "the recipe", "give it negatives")

    @property
    def together(self) -> int:
        """Texts that are seen with the image, beside its own caption."""
        return self.positives + self.mined + self.rewritten


RELATIONS = ("left of", "right of", "above", "below", "in front of", "behind", "under", "on top of", "inside", "beside")


def columns(settings: Settings) -> tuple[str, ...]:
    similar = ("similar",) if settings.retrieved else ()
    return ("negatives", *similar, *(retrieved.COLUMNS if settings.retrieved_images else ()))


def head(settings: Settings, model: Fusion, shapes: Shapes) -> nn.Linear:
    asked = [name for name in ("retrieved", "retrieved_images") if getattr(settings, name)]
    if asked and shapes.image_size is not None:
        what = f"cmcl.{asked[0]} shows texts without an image, which models of pixels can't"
        raise ConfigError(what, "the recipe", "set it to 0")
    return initialised(nn.Linear(model.widths.pooled, 1), model.init_std)


def prepare(example: Example, row: Row, make: Make, settings: Settings, rng: np.random.Generator) -> Example:
    """The example with the texts that its image is compared with: positives first."""
    rewordings = row.of_kind(settings.paraphrases) or row.siblings()
    own = [text for text in rewordings if text != row.text] or [row.text]
    texts = [own[i] for i in rng.integers(0, len(own), settings.positives)]
    words = vocabularies(row.group.metadata["classes"], row.group.metadata["attributes"])
    for number in range(settings.mined + settings.rewritten):
        text = rewritten(row.text, words, rng) if number >= settings.mined else None
        text = text or negative_text(row, 1.0, rng)
        texts.append("" if text is None else text)  # alone in its shard: nothing is said
    if settings.retrieved or settings.retrieved_images:  # drawn last, so that all else is the same without
        alone = texts_like(row, settings.retrieved, rng)
        # the empty text is for the image alone. Filled up so that rows are alike, which `retrieved` tells apart
        texts += ["", *alone, *[""] * (settings.retrieved - len(alone))]
        example = example.with_targets(retrieved=np.array(len(alone)))
    if settings.retrieved_images:
        example = retrieved.with_images(example, row, settings.retrieved_images, rng)
    return replace(example, others=tuple(make.tokenizer.words(text) for text in texts))


def texts_like(row: Row, most: int, rng: np.random.Generator) -> list[str]:
    """Texts of other images that are like the row's caption, so many at most, none twice. All alike likely."""
    similar = list(dict.fromkeys(row.similar())) if most else []  # several images may have the same text
    return [similar[place] for place in rng.choice(len(similar), min(most, len(similar)), replace=False)]


@lru_cache
def vocabularies(classes: str, attributes: str) -> tuple[tuple[str, ...], ...]:
    """The names of each kind, of the JSON lists in a shard's metadata."""
    return tuple(json.loads(classes)), tuple(name for name in json.loads(attributes) if name != "none"), RELATIONS


def rewritten(text: str, words: Sequence[tuple[str, ...]], rng: np.random.Generator) -> str | None:
    """The text with one object, attribute or relation replaced by another of its kind. None if it names none.

    words: the vocabularies, one a kind. Longer names are found before shorter ones, in any case of letters.
    """
    found = [(match, kind) for kind in words for match in _pattern(kind).finditer(text)]
    if not found:
        return None
    match, kind = found[rng.integers(len(found))]
    others = [name for name in kind if name.lower() != match[1].lower()]
    if not others:
        return None
    return text[: match.start(1)] + others[rng.integers(len(others))] + text[match.end(1) :]


@lru_cache
def _pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(filter(None, names), key=len, reverse=True)
    return re.compile(rf"\b({'|'.join(map(re.escape, longest_first)) or '(?!)'})(?:e?s)?\b", re.IGNORECASE)


def loss(model: Fusion, encoded: Encoded, head: nn.Linear, batch: Batch, settings: Settings) -> Scored:
    """One more pass of the model over every other text with the row's image, and one each over texts and images alone.

    Right is a row whose own caption, or another of its image, has the highest score of those seen with the image.
    """
    assert batch.others is not None
    rows = torch.arange(len(batch)).repeat_interleave(settings.together)
    words = map_tensors(batch.others, lambda tensor: tensor[:, : settings.together].flatten(0, 1))
    others_B = head(model(replace(batch.take(rows), words=words)).pooled_BH).view(len(batch), settings.together)
    scores_BK = torch.cat([head(encoded.pooled_BH), others_B], dim=1)
    positive = 1 + settings.positives
    right = (scores_BK.argmax(dim=1) < positive).sum()
    alone = [alone_scores(model, batch, settings)] if settings.retrieved else []
    if settings.retrieved_images:
        nothing = map_tensors(batch.others, lambda tensor: tensor[:, settings.together])
        alone.append(retrieved.image_scores(model, batch, nothing, partial(product, settings=settings)))
    scores_BK = torch.cat([scores_BK[:, :positive], *alone, scores_BK[:, positive:]], dim=1)
    positives = positive + settings.retrieved + settings.retrieved_images
    value = contrast(scores_BK, positives, settings.temperature)
    return Scored(value, torch.tensor(len(batch)), right, chance=positive / (1 + settings.together))


def alone_scores(model: Fusion, batch: Batch, settings: Settings) -> Tensor:
    """(B, N): each row's image without a text times each retrieved text without an image; −∞ where a row has fewer."""
    assert batch.others is not None
    assert batch.regions is not None
    counts_B = batch.targets["retrieved"]
    numbers_N = torch.arange(settings.retrieved, device=counts_B.device)
    rows_S, places_S = (numbers_N < counts_B[:, None]).nonzero(as_tuple=True)  # only what is there costs a pass
    nowhere_BN = torch.full((len(batch), settings.retrieved), -torch.inf, device=counts_B.device)
    if not len(rows_S):
        return nowhere_BN
    rest = slice(settings.together, settings.together + 1 + settings.retrieved)
    texts = map_tensors(batch.others, lambda tensor: tensor[:, rest])  # the empty one first
    pictured, number_S = rows_S.unique(return_inverse=True)
    nothing = map_tensors(texts, lambda tensor: tensor[pictured, 0])
    images_IH = model(replace(batch.take(pictured), words=nothing)).pooled_BH
    paired = map_tensors(texts, lambda tensor: tensor[rows_S, places_S + 1])
    unseen = replace(batch, regions=map_tensors(batch.regions, lambda tensor: tensor[:, :0]))
    texts_SH = model(replace(unseen.take(rows_S), words=paired)).pooled_BH
    scores_S = product(images_IH[number_S], texts_SH, settings)
    return nowhere_BN.to(scores_S.dtype).index_put((rows_S, places_S), scores_S)


def product(images_SH: Tensor, texts_SH: Tensor, settings: Settings) -> Tensor:
    """(S,) float32 or more: of the vectors as they are, or of length 1."""
    images_SH, texts_SH = as_float32(images_SH), as_float32(texts_SH)
    if settings.product == "cosine":
        images_SH, texts_SH = F.normalize(images_SH, dim=-1), F.normalize(texts_SH, dim=-1)
    return (images_SH * texts_SH).sum(dim=-1)


def contrast(scores_BK: Tensor, positive: int, temperature: float) -> Tensor:
    """Mean of −log(Σ over the first `positive` of exp(score / τ) / Σ over all of them). Returns a scalar."""
    logits_BK = as_float32(scores_BK) / temperature
    return (logits_BK.logsumexp(dim=1) - logits_BK[:, :positive].logsumexp(dim=1)).mean()


def similarity(model: Fusion, head: nn.Linear, settings: Settings, images: Batch, texts: Batch) -> Tensor:
    """(I, N): the score of every pair. Each costs a pass through the model."""

    def score(pairs: Batch) -> Tensor:
        scored: Tensor = head(model(pairs).pooled_BH)[:, 0]
        return scored

    return every_pair(model, images, texts, score)

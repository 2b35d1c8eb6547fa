"""How well many images go with many texts: block by block, so that only the figures themselves are all in memory.

Shape letters: I images, N texts, E width of a vector.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evaluation.gallery import Gallery, texts_alone
from pairloom.errors import ConfigError
from trainer.contract import VectorMatcher
from trainer.learner import Learner

IMAGES, TEXTS = 32, 256  # of a block
IN_MEMORY = 256 << 20  # bytes of scores that stay in memory. More lie in a temporary file
Advance = Callable[[int], None]  # told how many images were scored


def nothing(count: int) -> None:
    """For whom progress does not matter."""


def matcher(learner: Learner) -> Any:
    """The objective that says how well image and text match. Raises ConfigError if the recipe has none."""
    recipe = learner.recipe
    if recipe.retrieval is None:
        fix = "take a checkpoint of a recipe with `retrieval`, such as uniter or clip"
        raise ConfigError("it has no objective that matches images and texts", f"recipe {recipe.name}", fix)
    return recipe.objectives[recipe.retrieval.objective].module


@torch.no_grad()
def scores(
    learner: Learner, gallery: Gallery, images: Sequence[int], texts: Sequence[str], advance: Advance = nothing
) -> Tensor:
    """(I, N) float32 on the CPU: how well each of these images goes with each text. Higher is better.

    A model with two towers reads each image and text once. Any other reads every pair: I × N passes of one row.
    """
    module, device = matcher(learner.eval()), next(learner.parameters()).device
    scored_IN = room(len(images), len(texts))
    if isinstance(module, VectorMatcher):
        texts_NE = text_vectors(learner, gallery, texts)
        for first in range(0, len(images), IMAGES):
            images_BE = image_vectors(learner, gallery, images[first : first + IMAGES])
            scored_IN[first : first + IMAGES] = module.of_vectors(images_BE, texts_NE).float().cpu()
            advance(len(images_BE))
        return scored_IN
    words = texts_alone(gallery.make.tokenizer, texts).to(device)
    for first in range(0, len(images), IMAGES):
        block = gallery.batch(images[first : first + IMAGES]).to(device)
        scored_IN[first : first + IMAGES] = learner.similarity(block, words).float().cpu()
        advance(len(block))
    return scored_IN


def room(images: int, texts: int) -> Tensor:
    """(I, N) float32; in a temporary file, which is gone when the tensor is, where it is large."""
    if images * texts * 4 <= IN_MEMORY:
        return torch.empty(images, texts)
    with tempfile.TemporaryFile() as file:
        return torch.from_numpy(np.memmap(file, np.float32, "w+", shape=(images, texts)))


def text_vectors(learner: Learner, gallery: Gallery, texts: Sequence[str]) -> Tensor:
    """(N, E) of a model with two towers, on its device."""
    device, tokenizer = next(learner.parameters()).device, gallery.make.tokenizer
    blocks = (texts[first : first + TEXTS] for first in range(0, len(texts), TEXTS))
    return torch.cat([learner.model.texts(texts_alone(tokenizer, block).to(device)) for block in blocks])


def image_vectors(learner: Learner, gallery: Gallery, images: Sequence[int]) -> Tensor:
    """(I, E) of a model with two towers, on its device; of a block of images."""
    found: Tensor = learner.model.images(gallery.batch(images).to(next(learner.parameters()).device))
    return found

"""A checkpoint that `pairloom train` wrote, of any recipe whose model has a tower for pictures and one for texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pairloom.errors import InputError
from pairloom.loader.batch import Example, Pixels, Regions
from pairloom.loader.collate import collate
from systems import checkpoints
from systems.encoders.placing import Placing, unit
from systems.units import pixels

NO_UNITS = Regions(np.zeros((0, 1), np.float16), np.zeros((0, 7), np.float32), np.zeros(0, np.bool_))


class Ours:
    """The recipe's model, its tokenizer, and its pixels as in evaluation."""

    def __init__(self, folder: Path, placing: Placing) -> None:
        learner, self._tokenizer = checkpoints.load(folder)
        recipe = learner.recipe
        towers = all(hasattr(learner.model, name) for name in ("images", "texts"))
        if not towers or not isinstance(recipe.units.settings, pixels.Settings):
            wrong = f"recipe {recipe.name} has no tower for pictures and another for texts"
            raise InputError(wrong, str(folder), "name a checkpoint of clip, align or mural, or of a recipe like them")
        self._model, self._pixels, self._placing = learner.model.to(placing.device), recipe.units.settings, placing
        self._nothing = self._tokenizer.words("")
        self.width = self.texts([""]).shape[1]

    def prepare(self, picture: Image.Image) -> Tensor:
        return torch.from_numpy(np.asarray(pixels.prepared(picture, self._pixels, None).values_3SS))

    def images(self, pixels_B3SS: Tensor) -> Tensor:
        examples = [Example(b"", 0, self._nothing, Pixels(one_3SS.numpy())) for one_3SS in pixels_B3SS]
        batch = collate(examples, self._tokenizer.pad).to(torch.device(self._placing.device))
        with self._placing.computing():
            return unit(self._model.images(batch))

    def texts(self, texts: Sequence[str]) -> Tensor:
        examples = [Example(b"", 0, self._tokenizer.words(text), NO_UNITS) for text in texts]
        batch = collate(examples, self._tokenizer.pad).to(torch.device(self._placing.device))
        with self._placing.computing():
            return unit(self._model.texts(batch))

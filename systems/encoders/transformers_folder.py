"""A folder that transformers wrote: CLIP, SigLIP, ALIGN, or another model that gives vectors of pictures and texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from pairloom.errors import InputError
from pairloom.unpickle import DAMAGED
from systems.encoders.placing import Placing, unit

# Their text tower reads its vector off the last place, so that each text must be filled up to the full length.
OF_FULL_LENGTH = {"siglip", "siglip2"}


class TransformersFolder:
    """The model with its own tokenizer and image processor, opened by transformers."""

    def __init__(self, folder: Path, placing: Placing) -> None:
        from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

        try:
            model: Any
            model, told = AutoModel.from_pretrained(folder, local_files_only=True, output_loading_info=True)
            self._processor: Any = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ImportError, SafetensorError, *DAMAGED) as error:
            wrong = f"transformers cannot open it: {str(error).strip().splitlines()[0]}"
            fix = "give the whole folder: config.json, weights, preprocessor_config.json and the tokenizer's files"
            raise InputError(wrong, str(folder), fix) from error
        if missing := sorted(told["missing_keys"]):  # which transformers would start at random, with a warning
            wrong = f"the weights lack {len(missing)} tensors: {', '.join(missing[:3])}"
            raise InputError(wrong, str(folder), "take the whole file of weights")
        kind = model.config.model_type
        if not all(hasattr(model, name) for name in ("get_image_features", "get_text_features")):
            wrong = f"a model of type {kind} gives no vectors of pictures and of texts in one space"
            raise InputError(wrong, str(folder), "name a folder of CLIP, SigLIP or ALIGN")
        self._model, self._placing = model.eval().to(placing.device), placing
        self._padding = "max_length" if kind in OF_FULL_LENGTH else "longest"
        self._longest = min(model.config.text_config.max_position_embeddings, self._tokenizer.model_max_length)
        self.width = self.texts([""]).shape[1]

    def prepare(self, picture: Image.Image) -> Tensor:
        pixels_3SS: Tensor = self._processor(picture, return_tensors="pt")["pixel_values"][0]
        return pixels_3SS

    def images(self, pixels_B3SS: Tensor) -> Tensor:
        with self._placing.computing():
            return unit(_vectors(self._model.get_image_features(pixel_values=pixels_B3SS.to(self._placing.device))))

    def texts(self, texts: Sequence[str]) -> Tensor:
        tokens = self._tokenizer(
            list(texts), padding=self._padding, truncation=True, max_length=self._longest, return_tensors="pt"
        )
        with self._placing.computing():
            return unit(_vectors(self._model.get_text_features(**tokens.to(self._placing.device))))


def _vectors(found: Any) -> Tensor:
    """Before version 5 transformers gave the tensor itself."""
    vectors: Tensor = found if isinstance(found, torch.Tensor) else found.pooler_output
    return vectors

"""Models of open_clip: a folder with its open_clip_config.json, or a file of weights and the architecture's name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from pairloom.errors import ConfigError, InputError
from pairloom.unpickle import DAMAGED
from systems.encoders.placing import Placing, unit


class OpenClipFiles:
    """The model with its own tokenizer and evaluation transform, opened by open_clip."""

    def __init__(self, path: Path, architecture: str | None, placing: Placing) -> None:
        import open_clip

        if path.is_file() and architecture not in open_clip.list_models():
            known = ", ".join(open_clip.list_models()[:8])
            raise ConfigError(f"open_clip has no model {architecture!r}", "score.architecture", f"any of {known}, …")
        name, weights = (architecture, str(path)) if path.is_file() else (f"local-dir:{path}", None)
        try:
            model, transform = open_clip.create_model_from_pretrained(name, pretrained=weights)
            self._tokenizer: Any = open_clip.get_tokenizer(name)
        except (OSError, SafetensorError, *DAMAGED) as error:
            wrong = f"open_clip cannot open it: {str(error).strip().splitlines()[0]}"
            fix = "give the whole folder that open_clip wrote, or weights of the named architecture"
            raise InputError(wrong, str(path), fix) from error
        self._model, self._transform, self._placing = model.eval().to(placing.device), transform, placing
        self.width = self.texts([""]).shape[1]

    def prepare(self, picture: Image.Image) -> Tensor:
        pixels_3SS: Tensor = self._transform(picture)
        return pixels_3SS

    def images(self, pixels_B3SS: Tensor) -> Tensor:
        with self._placing.computing():
            return unit(self._model.encode_image(pixels_B3SS.to(self._placing.device)))

    def texts(self, texts: Sequence[str]) -> Tensor:
        with self._placing.computing():
            return unit(self._model.encode_text(self._tokenizer(list(texts)).to(self._placing.device)))

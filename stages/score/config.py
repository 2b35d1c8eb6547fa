"""The settings of stage `score`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pairloom.errors import ConfigError
from pairloom.typed import Positive, check_ranges
from stages.contract import A_PATH


@dataclass(frozen=True, kw_only=True)
class Config:
    """Section `score` of params.yaml. docs/how-to/score.md has the models."""

    # folder or file of a dual encoder: one of transformers or open_clip, or what `pairloom train` wrote of clip, align
    # or mural
    model: str | None = field(default=None, metadata=A_PATH)
    architecture: str | None = None  # open_clip's name of the model, such as ViT-B-32, where `model` is a file
    # files of linear or MLP heads over the picture's vector. A head is called as its file, without the ending
    heads: tuple[str, ...] = field(default=(), metadata=A_PATH)
    image_embedding: bool = False  # whether the pictures' vectors are stored
    text_embedding: bool = False  # whether the texts' vectors are stored
    # of the matrix products; auto is bfloat16 on a GPU, float32 on a CPU
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    batch: Positive | None = None  # pictures, or texts, at once. Null is 16 on a CPU, 256 on a GPU
    # threads that decode pictures. Null is 2, or 8 for a GPU
    threads: Positive | None = field(default=None, metadata={"affects_output": False})
    device: str = "auto"  # cpu, cuda, cuda:1, …; auto is cuda where there is one

    def __post_init__(self) -> None:
        check_ranges(self)
        doubled = [name for name, files in Counter(Path(file).stem for file in self.heads).items() if files > 1]
        if doubled:
            raise ConfigError(f"score.heads has two files {doubled[0]!r}", "params.yaml", "rename one of them")

    @property
    def path(self) -> Path:
        """Where the model is. Raises ConfigError if none is named."""
        if self.model is None:
            fix = "set score.model to the folder or file of a dual encoder (docs/how-to/score.md)"
            raise ConfigError("score.model names no model", "params.yaml, section score", fix)
        return Path(self.model)

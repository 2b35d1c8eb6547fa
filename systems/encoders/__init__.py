"""Dual encoders from a local folder or file, whoever wrote it: pictures and texts become vectors of one space.

The one door of `systems` that a stage may use (docs/explanation/design.md): it sees an Encoder, and no trainer, recipe
or layout.

B pictures, N texts, S pixels of a side, E width of the space.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from systems.encoders.kinds import Kind, kind_of

if TYPE_CHECKING:  # torch takes seconds to import, and the files of an encoder are named without it
    from PIL import Image
    from torch import Tensor

    from systems.encoders.placing import Placing


class Encoder(Protocol):
    """What stage `score` asks of a model. Vectors have length 1, are float32 and lie on the CPU."""

    width: int  # E

    def prepare(self, picture: Image.Image) -> Tensor:
        """(3, S, S) float32: one picture in RGB, cropped, resized and normalised as in the model's own evaluation."""

    def images(self, pixels_B3SS: Tensor) -> Tensor:
        """(B, E)."""

    def texts(self, texts: Sequence[str]) -> Tensor:
        """(N, E). Tokens beyond the longest text that the model has positions for are cut off."""


def open_encoder(path: Path, architecture: str | None, placing: Placing) -> Encoder:
    """The model of a folder or file.

    architecture: open_clip's name of it, for a file of weights alone. Raises InputError if it is no dual encoder, is
    damaged or lacks files, and ConfigError for an architecture that open_clip does not know.
    """
    match kind_of(path, architecture):
        case Kind.OURS:
            from systems.encoders.ours import Ours

            return Ours(path, placing)
        case Kind.TRANSFORMERS:
            from systems.encoders.transformers_folder import TransformersFolder

            return TransformersFolder(path, placing)
        case Kind.OPEN_CLIP:
            from systems.encoders.open_clip_files import OpenClipFiles

            return OpenClipFiles(path, architecture, placing)

"""Opens a published detector with its converted checkpoint, behind the `Network` interface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from pairloom.errors import InputError
from stages.regions.contract import Detections, Precision
from stages.regions.published import backbone, picture, store
from stages.regions.published.network import PublishedDetector, shapes
from stages.regions.published.settings import FasterRCNN


class PublishedNetwork:
    """A PublishedDetector with its names. See stages/regions/contract.py."""

    def __init__(self, model: PublishedDetector, stored: store.Weights) -> None:
        self.model, self.classes, self.attributes = model, stored.classes, stored.attributes
        self.feature_width, self.sha256 = model.settings.feature_width, stored.source_sha256

    def place(self, device: str, precision: Precision) -> None:
        self.model.place(device, precision)

    def prepare(self, image: Image.Image) -> Tensor:
        return picture.prepare(image, self.model.settings.input)

    def scale(self, picture_size: tuple[int, int], prepared_size: tuple[int, int]) -> tuple[float, float]:
        return picture.scale_back(picture_size, prepared_size, self.model.settings.input)

    def detect(self, images_N3HW: Tensor, picture_sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        return self.model.detect(images_N3HW, picture_sizes)


def open_published(settings: FasterRCNN, path: Path) -> PublishedNetwork:
    """The detector with the weights that `pairloom detector add` stored at `path`.

    Raises InputError if the file is missing, damaged, or another detector's.
    """
    stored = store.read(path)
    if not stored.attributes:
        settings = replace(settings, attributes=None)  # airsplay published one file without that head
    cure = f"run `pairloom detector add {settings.name} FILE` with a file that was published for it"
    if {key: value.shape for key, value in stored.tensors.items()} != shapes(settings):
        raise InputError(f"the checkpoint does not fit detector {settings.name}", where=str(path), fix=cure)
    for key, value in stored.tensors.items():
        if not bool(torch.isfinite(value).all()):
            raise InputError(f"its tensor {key} has NaN or infinity", where=str(path), fix=cure)
    with torch.device("meta"):
        model = PublishedDetector(settings)
    model.load_state_dict(stored.tensors, strict=True, assign=True)
    backbone.fold(model.requires_grad_(False).eval())
    return PublishedNetwork(model, stored)

"""Convolutional networks that turn pixels into a grid of cells: torchvision's by name, or a few layers of our own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from schemas.errors import ConfigError, InputError


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A network and where it is cut.

    network: torchvision's name (resnet50), with `layer` the last layer that is kept; or `cells`, one convolution of
    2 by 2 pixels and stride 2 for each of `channels`, so that no pixel has a part in two cells (MLIM).
    pool: a maximum over so many cells each way at the end. checkpoint: torchvision's state dict (.pth); else seeded.
    frozen: names of layers that are not trained.
    """

    network: str
    layer: str = "layer4"
    channels: tuple[int, ...] = ()
    pool: int = 1
    checkpoint: str | None = None
    frozen: tuple[str, ...] = ()


def build(settings: Backbone) -> tuple[nn.Module, int]:
    """(pixels (B, 3, S, S) -> cells (B, C, S, S), C). Raises ConfigError for a network or layer that there is not."""
    network = cells(settings.channels) if settings.network == "cells" else _torchvision(settings)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not name.startswith(settings.frozen or ("\0",)))
    pool: nn.Module = nn.MaxPool2d(settings.pool) if settings.pool > 1 else nn.Identity()
    whole = nn.Sequential(network, pool)
    with torch.no_grad():  # in evaluation, or the probe would leave its trace in running means
        width = whole.eval()(torch.zeros(1, 3, 256, 256, device=next(network.parameters()).device)).shape[1]
    return whole.train(), width


def cells(channels: tuple[int, ...]) -> nn.Sequential:
    """MLIM's embedder: convolutions that do not overlap."""
    layers: list[nn.Module] = []
    for before, width in zip((3, *channels), channels, strict=False):
        layers += [nn.Conv2d(before, width, kernel_size=2, stride=2), nn.GELU()]
    return nn.Sequential(*layers[:-1])


class Cut(nn.Module):
    """A network of torchvision up to one of its layers."""

    def __init__(self, network: nn.Module, layer: str) -> None:
        super().__init__()
        for name, part in network.named_children():
            self.add_module(name, part)
            if name == layer:
                return
        raise ConfigError(f"the backbone has no layer {layer}", "the recipe", f"one of {list(self._modules)}")

    def forward(self, pixels_B3SS: Tensor) -> Tensor:
        for part in self.children():
            pixels_B3SS = part(pixels_B3SS)
        return pixels_B3SS


def _torchvision(settings: Backbone) -> Cut:
    from torchvision import models

    try:
        network = models.get_model(settings.network, weights=None)
    except ValueError as error:
        raise ConfigError(f"torchvision has no {settings.network}", "the recipe", str(error)) from error
    if settings.checkpoint is not None:
        try:
            network.load_state_dict(torch.load(settings.checkpoint, weights_only=True, map_location="cpu"))
        except (OSError, RuntimeError) as error:
            given = f"not weights of {settings.network}: {error}"
            raise InputError(given, str(Path(settings.checkpoint)), "name torchvision's own .pth") from error
    return Cut(network, settings.layer)

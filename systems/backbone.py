"""Convolutional networks that turn pixels into a grid of cells: torchvision's, timm's, or a few layers of our own."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from pairloom.errors import ConfigError, InputError
from pairloom.imagenet import weights_file
from pairloom.typed import Range, check_ranges
from pairloom.unpickle import DAMAGED
from systems.kept import Kept


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A network and where it is cut.

    network: torchvision's name (resnet50), or `efficientnet_lite0`, which has its ImageNet weights from a package, with
    `layer` the last layer that is kept, or `cells`, one convolution of 2 by 2 pixels and stride 2 for each of
    `channels`, so that no pixel has a part in two cells (MLIM).
    pool: a maximum over so many cells each way at the end. checkpoint: torchvision's state dict (.pth), else seeded.
    frozen: names of layers that are not trained. Their running means stay as they are too. cached: so many pictures'
    cells are kept in memory, for a network that is frozen as a whole and pictures that come again without augmentation.
    """

    network: str
    layer: str = "layer4"
    channels: tuple[int, ...] = ()
    pool: int = 1
    checkpoint: str | None = None
    frozen: tuple[str, ...] = ()
    cached: Annotated[int, Range(0)] = 0

    def __post_init__(self) -> None:
        check_ranges(self)


class Grid(nn.Sequential):
    """A network and the maximum after it. What is frozen stays in evaluation, or its running means would move."""

    def __init__(self, network: nn.Module, settings: Backbone) -> None:
        super().__init__(network, nn.MaxPool2d(settings.pool) if settings.pool > 1 else nn.Identity())
        parts = dict(network.named_children())
        for name in settings.frozen:
            if name not in parts:
                raise ConfigError(f"the backbone has no layer {name} to freeze", "the recipe", f"any of {list(parts)}")
            parts[name].requires_grad_(False)
        if settings.cached and any(parameter.requires_grad for parameter in network.parameters()):
            trained = [name for name in parts if name not in settings.frozen]
            given = f"the backbone keeps cells of {settings.cached} pictures, and {', '.join(trained)} change"
            raise ConfigError(given, "the recipe", "set frozen to all layers, or cached to 0")
        self.kept = Kept(settings.cached)
        self.to(memory_format=torch.channels_last)  # a third to a half less time than the planes one after another

    def forward(self, pixels_B3SS: Tensor) -> Tensor:
        network, maximum = self
        if self.kept.most == 0 or pixels_B3SS.device.type != "cpu":
            cells_BCSS = network(pixels_B3SS)
        else:
            cells_BCSS = self.kept(pixels_B3SS, network)
        pooled_BCSS: Tensor = maximum(cells_BCSS)
        return pooled_BCSS

    def train(self, mode: bool = True) -> Grid:
        super().train(mode)
        for part in self[0].children():
            if not any(parameter.requires_grad for parameter in part.parameters()):
                part.eval()
        return self


def build(settings: Backbone) -> tuple[nn.Module, int]:
    """(pixels (B, 3, S, S) -> cells (B, C, S, S), C). Raises ConfigError for a network or layer that there is not."""
    match settings.network:
        case "cells":
            network: nn.Module = cells(settings.channels)
        case "efficientnet_lite0":
            network = Cut(lite0(), settings.layer)
        case _:
            network = _torchvision(settings)
    grid = Grid(network, settings)
    with torch.no_grad():  # in evaluation, or the probe would leave its trace in running means
        width = grid.eval()[0](torch.zeros(1, 3, 256, 256, device=next(grid.parameters()).device)).shape[1]
    return grid.train(), width


def cells(channels: tuple[int, ...]) -> nn.Sequential:
    """MLIM's embedder: convolutions that do not overlap."""
    layers: list[nn.Module] = []
    for before, width in zip((3, *channels), channels, strict=False):
        layers += [nn.Conv2d(before, width, kernel_size=2, stride=2), nn.GELU()]
    return nn.Sequential(*layers[:-1])


class Cut(nn.Module):
    """A network up to one of its layers."""

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


def lite0() -> nn.Sequential:
    """EfficientNet-Lite0 with the ImageNet weights that are installed with pairloom: stem, stage0 to stage6, head.

    It wants pixels as (value - 127) / 128. stage4 has 112 channels at stride 16, head 1,280 at stride 32.
    """
    import timm

    network: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    published = torch.load(weights_file(), map_location="cpu", weights_only=True)
    renamed = dict(zip(network.state_dict(), published.values(), strict=True))  # of one order, by other names
    network.load_state_dict(renamed)
    stages = {f"stage{number}": stage for number, stage in enumerate(network.blocks)}
    stem, head = nn.Sequential(network.conv_stem, network.bn1), nn.Sequential(network.conv_head, network.bn2)
    return nn.Sequential(OrderedDict(stem=stem, **stages, head=head))


def _torchvision(settings: Backbone) -> Cut:
    from torchvision import models

    try:
        network = models.get_model(settings.network, weights=None)
    except ValueError as error:
        raise ConfigError(f"torchvision has no {settings.network}", "the recipe", str(error)) from error
    if settings.checkpoint is not None:
        try:
            network.load_state_dict(torch.load(settings.checkpoint, weights_only=True, map_location="cpu"))
        except (OSError, *DAMAGED) as error:
            given = f"not weights of {settings.network}: {error}"
            raise InputError(given, str(Path(settings.checkpoint)), "name torchvision's own .pth") from error
    return Cut(network, settings.layer)

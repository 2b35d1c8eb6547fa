"""The networks that turn a crop into a vector: the packaged EfficientNet-Lite0, or torchvision's by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from pairloom.errors import ConfigError, InputError
from pairloom.table import Array
from stages.patches.checkpoint import weights
from stages.regions.importing.containers import sha256
from stages.regions.starter import backbone

IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # torchvision's, of 0 to 255


@dataclass(frozen=True)
class PatchNetwork:
    """A network without its classifier, and how it wants its pixels: (value − mean) / std, RGB from 0 to 255."""

    layers: nn.Module
    width: int  # of a vector
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    sha256: str  # of the weights
    device: str

    @torch.inference_mode()
    def vectors(self, crops_NSS3: Sequence[Array], batch: int) -> Array:
        """(N, width) float32 of RGB crops of one size, in batches that these crops alone decide."""
        mean, std = (torch.tensor(values, device=self.device).view(3, 1, 1) for values in (self.mean, self.std))
        found = []
        for start in range(0, len(crops_NSS3), batch):
            pixels = torch.from_numpy(np.stack(crops_NSS3[start : start + batch])).to(self.device)
            inputs_N3SS = (pixels.movedim(-1, 1).float() - mean) / std
            found.append(self.layers(inputs_N3SS.contiguous(memory_format=torch.channels_last)).float().cpu())
        vectors: Array = torch.cat(found).numpy()
        return vectors


def load(name: str, checkpoint: str | None, device: str) -> PatchNetwork:
    """The network in eval mode on the device. Raises InputError if its weights do not fit, ConfigError on the rest."""
    path = weights(checkpoint)
    digest = sha256(path)
    placed = _device(device)
    if checkpoint is None:
        layers = backbone.fold(nn.Sequential(*backbone.imagenet_network().parts()))
        mean, std = backbone.PIXEL_MEAN, backbone.PIXEL_STD
        width = backbone.FEATURE_WIDTH
        return PatchNetwork(_placed(layers, placed), width, (mean, mean, mean), (std, std, std), digest, placed)
    layers, width = _torchvision(name, path)
    return PatchNetwork(_placed(layers, placed), width, IMAGENET_MEAN, IMAGENET_STD, digest, placed)


def _placed(layers: nn.Module, device: str) -> nn.Module:
    placed: nn.Module = layers.eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return placed


def _torchvision(name: str, path: Path) -> tuple[nn.Module, int]:
    """(the model without its last layer, width of what that layer would have read)."""
    from torchvision import models

    if name not in models.list_models(module=models):
        raise ConfigError(f"torchvision has no model {name!r}", "patches.network", "take resnet50, resnext101_32x8d, …")
    model = models.get_model(name, weights=None)
    last, layer = [(path, one) for path, one in model.named_modules() if isinstance(one, nn.Linear)][-1]
    model.set_submodule(last, nn.Identity())
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
        model.load_state_dict({key: value for key, value in state.items() if not key.startswith(f"{last}.")})
    except Exception as error:  # torch and safetensors raise what they like on a file that is none
        raise InputError(f"its weights are not those of {name}: {error}", str(path), "set patches.network") from error
    return model, layer.in_features


def _device(name: str) -> str:
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"patches.device is {name!r}: {error}", "params.yaml", "set cpu") from error
    return name

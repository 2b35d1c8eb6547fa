"""Family `starter`: the detector that is shipped. torch and detectron2 take seconds to import, so only `load` does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pairloom import imagenet

if TYPE_CHECKING:
    from stages.regions.catalogue import Detector
    from stages.regions.starter.network import StarterNetwork


def load(spec: Detector, path: Path) -> StarterNetwork:
    """The detector on the CPU. Raises InputError when its checkpoint is missing or does not fit."""
    from stages.regions.starter import checkpoint
    from stages.regions.starter.network import StarterNetwork

    weights = checkpoint.read(path)
    return StarterNetwork(checkpoint.build(spec, weights, str(path)), spec, weights)


def checkpoint_file(spec: Detector) -> Path:
    """The trained tensors that come with the project."""
    return Path(__file__).parent / spec.checkpoint


def files(spec: Detector, path: Path) -> tuple[Path, ...]:
    """The trained tensors, and the ImageNet weights under them."""
    return (path, imagenet.weights_file())

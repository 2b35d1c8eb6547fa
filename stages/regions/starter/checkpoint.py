"""Opens a detector with its weights, and refuses a file that does not fit it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pairloom.errors import InputError
from stages.regions.catalogue import Detector
from stages.regions.starter.backbone import fold
from stages.regions.starter.model import C4Detector

CURE = "name a file that stages/regions/starter/train.py wrote, or set regions.checkpoint to null for the shipped one"


@dataclass(frozen=True)
class Weights:
    """What a checkpoint file holds; sha256 in hex is that of the file."""

    tensors: dict[str, Tensor]
    classes: tuple[str, ...]
    attributes: tuple[str, ...]
    sha256: str


def read(path: Path) -> Weights:
    """Read a checkpoint. Raises InputError if it is missing, damaged, without names, or holds NaN or infinity."""
    if not path.is_file():
        raise InputError("the detector's checkpoint does not exist", where=str(path), fix=CURE)
    try:
        with safe_open(path, framework="pt") as file:
            notes = file.metadata() or {}
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118  not a dict
    except (SafetensorError, OSError) as error:
        raise InputError(f"the detector's checkpoint cannot be read: {error}", where=str(path), fix=CURE) from error
    if not {"classes", "attributes"} <= set(notes):
        raise InputError("the checkpoint has no names of classes and attributes", where=str(path), fix=CURE)
    for name, value in tensors.items():
        if not bool(torch.isfinite(value).all()):
            raise InputError(f"the checkpoint's tensor {name} has NaN or infinity", where=str(path), fix=CURE)
    classes, attributes = tuple(json.loads(notes["classes"])), tuple(json.loads(notes["attributes"]))
    return Weights(tensors, classes, attributes, hashlib.sha256(path.read_bytes()).hexdigest())


def build(spec: Detector, weights: Weights, where: str) -> C4Detector:
    """The detector for inference. Each tensor is used exactly once or named in an InputError."""
    model = C4Detector(spec, len(weights.classes), len(weights.attributes))
    wanted = model.trained()
    missing, unknown = sorted(set(wanted) - set(weights.tensors)), sorted(set(weights.tensors) - set(wanted))
    wrong = [name for name in wanted if name in weights.tensors and wanted[name].shape != weights.tensors[name].shape]
    if missing or unknown or wrong:
        raise InputError(
            f"the checkpoint does not fit detector {spec.name}: "
            f"missing {missing[:5]}, unknown {unknown[:5]}, of another shape {wrong[:5]}",
            where=where,
            fix=CURE,
        )
    model.load_state_dict(weights.tensors, strict=False)  # the ImageNet weights are in place already
    fold(model.eval())
    model.to(memory_format=torch.channels_last)  # a quarter faster on one core
    return model

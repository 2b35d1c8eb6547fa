"""Reads the files in which weights are published: safetensors, torch's own and numpy's, alone or in a folder."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from pairloom.errors import InputError
from pairloom.unpickle import DAMAGED

# In the order in which transformers looks. The indices name the files that a large model is split into.
IN_A_FOLDER = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
WRAPPERS = ("state_dict", "model_state_dict", "model")  # under which trainers keep the weights beside their own state
OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}  # as TensorFlow's files say


class _Inert:
    """Stands for an object of a trainer's state."""

    def __init__(self, *given: Any, **named: Any) -> None:
        """Takes whatever the pickle says."""

    def __setstate__(self, state: Any) -> None:
        """And keeps none of it."""


def read(path: Path) -> dict[str, Tensor]:
    """Name -> tensor of a file, or of a folder that transformers wrote.

    A pickle is read as data alone: it runs nothing. Trainers' state around the weights, and `module.` before every
    name, are taken off. Raises InputError if there are no weights, or they are damaged.
    """
    state: dict[str, Tensor] = {}
    for file in _files(path):
        state |= _read_file(file)
    if not state:
        raise InputError("there is no tensor in it", str(path), "name a file of weights")
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return {_renamed(name): value for name, value in state.items()}


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = next((path / name for name in IN_A_FOLDER if (path / name).exists()), None)
    if found is None:
        expected = ", ".join(IN_A_FOLDER)
        raise InputError(f"there is none of {expected}", str(path), "name the file of the weights itself")
    if found.suffix != ".json":
        return [found]
    try:
        index = json.loads(found.read_text(encoding="utf-8"))
        return [path / name for name in sorted(set(index["weight_map"].values()))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"it is no index of weights: {error}", str(found), "take it from its source again") from error


def _read_file(path: Path) -> dict[str, Tensor]:
    """By what the file holds: its name may end in anything."""
    try:
        with path.open("rb") as opened:
            start = opened.read(16)
        if start[8:9] == b"{":
            return load_file(path)
        if start.startswith(b"PK") and any(name.endswith(".npy") for name in zipfile.ZipFile(path).namelist()):
            with np.load(path, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        return _tensors(_unpickled(path, start))
    except pickle.UnpicklingError as error:
        reason = next((line for line in str(error).splitlines() if "GLOBAL" in line), "the pickle is damaged")
        fix = "load it with the program that wrote it, and save its state_dict() alone"
        raise InputError(f"it is refused, since a pickle can run any program: {reason}", str(path), fix) from error
    except (OSError, SafetensorError, zipfile.BadZipFile, *DAMAGED) as error:
        fix = "name a .safetensors, .bin, .pt, .pth, .ckpt or .npz file, or a folder that a program wrote"
        raise InputError(f"the weights cannot be read: {error}", str(path), fix) from error


def _unpickled(path: Path, start: bytes) -> Any:
    """A trainer's own objects beside the weights become inert ones: none of their code is looked up or run."""
    foreign: list[Any] = []
    if start.startswith(b"PK"):  # torch before 1.6 wrote no zip, of which torch lists no names
        foreign = [(_Inert, name) for name in get_unsafe_globals_in_checkpoint(path)]
    with safe_globals(foreign):
        return torch.load(path, map_location="cpu", weights_only=True)


def _tensors(document: Any) -> dict[str, Tensor]:
    """The weights of a torch file, whatever lies around them."""
    for wrapper in WRAPPERS:
        if isinstance(document, Mapping) and isinstance(document.get(wrapper), Mapping):
            document = document[wrapper]
    if not isinstance(document, Mapping):
        return {}
    return {str(name): value for name, value in document.items() if isinstance(value, Tensor)}


def _renamed(name: str) -> str:
    for old, new in OLD_NAMES.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name

"""Opens the containers in which checkpoints are published; which one it is, the file's first bytes say.

| container | who | opened by |
|---|---|---|
| `.caffemodel` | BUTD | importing/caffe.py |
| pickle of arrays | airsplay `.pkl`, detectron2's model zoo `.pkl` | pairloom/unpickle.py |
| torch's zip or its older pickle | Hugging Face `.bin`, MILVLG, VinVL, vmb `.pth` | torch.load, weights_only |
| safetensors | converted by a user | safetensors |
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pairloom import unpickle
from pairloom.errors import InputError
from stages.regions.importing import caffe

TORCH_LEGACY = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)[:13]  # torch.save before 1.6 begins with this number
CURE = "download the file again; `pairloom detector show NAME` says where from"


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a published checkpoint by their own names (a caffemodel's are "layer/blob number").

    Raises InputError if the file is missing, damaged, of an unknown container, or holds something else than data.
    """
    if not path.is_file():
        raise InputError("the checkpoint does not exist", where=str(path), fix="name the file that you downloaded")
    with path.open("rb") as file:
        head = file.read(16)
    try:
        if head[:4] == b"PK\x03\x04" or head.startswith(TORCH_LEGACY):
            return tensors(torch.load(path, map_location="cpu", weights_only=True), str(path))
        if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
            return _safetensors(path)
        if head[:1] == b"\x80":
            return tensors(unpickle.loads(path.read_bytes()), str(path))
        return _caffe(path)
    except unpickle.RefusedError as error:
        raise InputError(
            f"the checkpoint is a pickle that holds more than arrays: {error}",
            where=str(path),
            fix="do not trust it: get the published file",
        ) from error
    except caffe.WireError as error:
        raise InputError(f"it is not a caffemodel, or it is damaged: {error}", where=str(path), fix=CURE) from error
    except (OSError, SafetensorError, *unpickle.DAMAGED) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"the checkpoint cannot be read: {first}", where=str(path), fix=CURE) from error


def _caffe(path: Path) -> dict[str, Tensor]:
    blobs = caffe.read(memoryview(path.read_bytes()))
    found = {
        name: torch.from_numpy(blob.copy()) for name, blob in blobs.items()
    }  # torch wants to own what it may change
    if not found:
        raise caffe.WireError("it has no layer with weights")
    return found


def _safetensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict


def tensors(content: Any, where: str) -> dict[str, Tensor]:
    """The state dict in what a pickle held: itself, or under `model` or `state_dict`; without a `module.` prefix."""
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    found = {str(name): value for name, value in _arrays(content)}
    if not found:
        raise InputError("the checkpoint holds no tensors by name", where=where, fix=CURE)
    if all(name.startswith("module.") for name in found):
        found = {name.removeprefix("module."): value for name, value in found.items()}
    return found


def _arrays(content: Any) -> Iterator[tuple[Any, Tensor]]:
    for name, value in content.items() if isinstance(content, Mapping) else ():
        if isinstance(value, Tensor):
            yield name, value
        elif isinstance(value, np.ndarray | np.generic | int | float) and np.asarray(value).dtype.kind in "fiu":
            yield name, torch.from_numpy(np.array(value))  # a copy, which torch may write to


def sha256(path: Path) -> str:
    """Of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

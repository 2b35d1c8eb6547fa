"""The folder of converted checkpoints: where it is, and what its files hold."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from pairloom.errors import InputError
from stages.regions.catalogue import ZOO

if TYPE_CHECKING:  # to list what is there should not take the seconds that torch does
    from torch import Tensor

FORM = "pairloom-detector-1"  # raise the number when the same name means other weights


@dataclass(frozen=True)
class Weights:
    """A converted checkpoint."""

    path: Path
    tensors: dict[str, Tensor]
    classes: tuple[str, ...]
    attributes: tuple[str, ...]
    source: str  # the published file's name
    source_sha256: str
    layout: str
    named: bool  # False where no vocabulary was given and names are stand-ins
    asked: str = ""  # the name, or the path of the settings, by which the detector is loaded


def folder() -> Path:
    """$PAIRLOOM_DETECTORS, or ~/.cache/pairloom/detectors. Weights belong to a machine, not to a dataset's settings."""
    return Path(os.environ.get("PAIRLOOM_DETECTORS") or Path.home() / ".cache" / "pairloom" / "detectors")


def file(name: str) -> Path:
    """Where the converted checkpoint of this detector lies, if it was added."""
    stem = name.removeprefix(ZOO).removesuffix(".yaml").replace("/", "--") if name.startswith(ZOO) else Path(name).stem
    return folder() / f"{stem}.safetensors"


def read(path: Path, with_tensors: bool = True) -> Weights:
    """A converted checkpoint. Raises InputError if it is missing, damaged, or not one that `detector add` wrote."""
    cure = "run `pairloom detector add NAME FILE` with the published file"
    if not path.is_file():
        raise InputError("the detector's checkpoint is not there", where=str(path), fix=cure)
    try:
        with safe_open(path, framework="pt" if with_tensors else "np") as opened:
            notes = opened.metadata() or {}
            tensors = {key: opened.get_tensor(key) for key in opened.keys()} if with_tensors else {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"the detector's checkpoint cannot be read: {error}", where=str(path), fix=cure) from error
    if notes.get("form") != FORM:
        raise InputError("it is not a checkpoint that `detector add` wrote", where=str(path), fix=cure)
    return Weights(
        path=path,
        tensors=tensors,
        classes=tuple(json.loads(notes["classes"])),
        attributes=tuple(json.loads(notes["attributes"])),
        source=notes["source"],
        source_sha256=notes["source_sha256"],
        layout=notes["layout"],
        named=bool(json.loads(notes["named"])),
        asked=notes.get("asked", notes["detector"]),
    )

"""Opens a published detector with its converted checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from schemas.errors import InputError
from stages.regions.importing import store
from stages.regions.importing.convert import shapes
from stages.regions.published.network import PublishedDetector
from stages.regions.published.settings import FasterRCNN


@dataclass(frozen=True)
class Opened:
    """A detector ready for inference, and what its tables say about themselves."""

    network: PublishedDetector
    classes: tuple[str, ...]
    attributes: tuple[str, ...]
    checkpoint: str  # SHA-256 of the published file, in hex


def open_published(name: str, settings: FasterRCNN, checkpoint: Path | None = None, device: str = "cpu") -> Opened:
    """The detector with the weights that `pairloom detector add` stored for it, or of another file it wrote.

    Raises InputError if the file is missing, damaged, or another detector's.
    """
    stored = store.read(checkpoint or store.file(name))
    if not any(key.startswith("attributes.") for key in stored.tensors):
        settings = replace(settings, attributes=None)
    wanted = shapes(settings)
    if {key: value.shape for key, value in stored.tensors.items()} != wanted:
        raise InputError(
            f"the checkpoint does not fit detector {name}",
            where=str(stored.path),
            fix=f"run `pairloom detector add {name} FILE` with a file that was published for it",
        )
    for key, value in stored.tensors.items():
        if not bool(torch.isfinite(value).all()):
            raise InputError(f"its tensor {key} has NaN or infinity", where=str(stored.path), fix="add it again")
    with torch.device("meta"):
        network = PublishedDetector(settings)
    network.load_state_dict(stored.tensors, strict=True, assign=True)
    network.requires_grad_(False).eval().to(device)
    return Opened(network, stored.classes, stored.attributes, stored.source_sha256)

"""The file of the weights of the patches' network, found without torch, which takes seconds to import."""

from __future__ import annotations

from pathlib import Path

from pairloom import imagenet
from pairloom.errors import InputError


def weights(checkpoint: str | None) -> Path:
    """The file of the weights. Raises InputError if there is none."""
    if checkpoint is None:
        return imagenet.weights_file()
    if not Path(checkpoint).is_file():
        raise InputError("the checkpoint of the patches' network is missing", checkpoint, "set patches.checkpoint")
    return Path(checkpoint)

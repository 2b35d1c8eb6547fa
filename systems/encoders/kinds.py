"""Who wrote a dual encoder, told by the files alone and without torch, and which of these files decide its vectors."""

from __future__ import annotations

import enum
import json
from pathlib import Path
from typing import Any

from pairloom.errors import ConfigError, InputError

CONFIG, OPEN_CLIP_CONFIG = "config.json", "open_clip_config.json"
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".npz")
# Beside weights: settings, vocabularies and indices of weights in parts. Not the training state, logs or cards.
BESIDE = (".json", ".txt", ".model", ".gz", ".jinja")


class Kind(enum.Enum):
    OURS = "pairloom"  # what `pairloom train` wrote
    TRANSFORMERS = "transformers"  # a folder of save_pretrained
    OPEN_CLIP = "open_clip"  # a folder of its push_to_hf_hub, or a file of weights and the architecture's name


def kind_of(path: Path, architecture: str | None) -> Kind:
    """Who wrote it. Raises InputError if it is not there or of none of these, ConfigError for a file without a name."""
    if path.is_file():
        if architecture is None:
            fix = "set score.architecture to open_clip's name of the model, such as ViT-B-32, or name a folder"
            raise ConfigError("a file of weights does not say which model it is of", str(path), fix)
        return Kind.OPEN_CLIP
    if not path.is_dir():
        raise InputError("there is no such file or folder", str(path), "set score.model to the model's folder or file")
    config = _config(path / CONFIG)
    if "settings" in config:
        return Kind.OURS
    weights = any(path.glob("model*.safetensors")) or any(path.glob("pytorch_model*.bin"))
    if "model_type" in config and (weights or not (path / OPEN_CLIP_CONFIG).exists()):
        return Kind.TRANSFORMERS
    if (path / OPEN_CLIP_CONFIG).exists():
        return Kind.OPEN_CLIP
    fix = f"name a folder with {CONFIG} of transformers or of `pairloom train`, or with {OPEN_CLIP_CONFIG}"
    raise InputError("the folder does not say which model it holds", str(path), fix)


def _config(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"it is no JSON: {error}", str(file), "take it from its source again") from error
    return found if isinstance(found, dict) else {}


def files(path: Path) -> tuple[Path, ...]:
    """The files that decide what the model answers, sorted. A file alone is its own."""
    if not path.is_dir():
        return (path,)
    suffixes = (*WEIGHTS, *BESIDE)
    return tuple(sorted(file for file in path.iterdir() if file.is_file() and file.suffix in suffixes))

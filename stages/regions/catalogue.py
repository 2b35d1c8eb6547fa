"""The catalogue of detectors: one file of settings each in detectors/, checked and turned into a dataclass."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from schemas.errors import ConfigError

FOLDER = Path(__file__).parent / "detectors"


@dataclass(frozen=True, kw_only=True)
class Detector:
    """One detector: how it sees a picture, proposes, pools and selects; units are in detectors/starter.yaml."""

    name: str
    family: str  # the module of stages/regions that loads it
    architecture: str
    backbone: str
    checkpoint: str
    licence: str
    short_side: int
    long_side: int
    anchor_sizes: tuple[int, ...]
    anchor_ratios: tuple[float, ...]
    rpn_channels: tuple[int, ...]
    rpn_before_nms: int
    rpn_nms: float
    rpn_proposals: int
    rpn_train_proposals: int
    pool_size: int
    pool_samples: int
    train_regions: int
    imagenet_regions: int
    imagenet_score: float
    feature_width: int
    prob_width: int
    selection: str


def names() -> list[str]:
    """The detectors that can be chosen."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str) -> Detector:
    """The detector of this name; raises ConfigError when there is none or its file has wrong keys."""
    path = FOLDER / f"{name}.yaml"
    if name not in names():
        raise ConfigError(
            f"there is no detector {name!r}", where="regions.detector in params.yaml", fix=f"choose one of {names()}"
        )
    values: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) | {"name": name}
    wanted = {field.name for field in fields(Detector)}
    if set(values) != wanted:
        raise ConfigError(
            f"detector {name} has unknown keys {sorted(set(values) - wanted)}, misses {sorted(wanted - set(values))}",
            where=str(path),
            fix="give it the keys of stages.regions.catalogue.Detector",
        )
    frozen: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return Detector(**frozen)

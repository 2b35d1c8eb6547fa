"""Stage `regions`: objects, attributes and features of each image, by a Faster R-CNN, best region first."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from schemas.errors import ConfigError
from schemas.regions import REGIONS
from schemas.rejects import Reject, quarantine
from stages.regions import catalogue
from stages.regions.select import POLICIES, Policy

if TYPE_CHECKING:  # torch and detectron2 take seconds to import: only `setup` and `process` do
    from stages.regions.extract import Regions
    from stages.regions.found import Network

INPUTS = ("curate",)
OUTPUT = REGIONS
VERSION = 2


@dataclass(frozen=True, kw_only=True)
class Config:
    """Section `regions` of params.yaml."""

    detector: str = "starter"  # a file of stages/regions/detectors
    checkpoint: str | None = None  # the detector's weights; null is the file that comes with it
    min_regions: int | None = None  # kept even if their score is below min_score; null is the policy's own, as below
    max_regions: int | None = None  # 1 to 100
    min_score: float | None = None  # detector confidence, 0 to 1
    nms: float | None = None  # IoU above which the worse of two regions goes
    device: str = "auto"  # cpu, cuda, cuda:1, …; auto is cuda where there is one

    def __post_init__(self) -> None:
        for name, value in (("min_score", self.min_score), ("nms", self.nms)):
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"regions.{name} is {value}", where="params.yaml", fix="set it from 0 to 1")
        policy = self.policy()
        if not 1 <= policy.min_regions <= policy.max_regions <= 100:
            raise ConfigError(
                f"regions.min_regions is {policy.min_regions} and regions.max_regions is {policy.max_regions}",
                where="params.yaml",
                fix="set 1 ≤ min_regions ≤ max_regions ≤ 100",
            )

    def policy(self) -> Policy:
        """The detector's selection with what is set here in place of its own numbers."""
        own = {name: getattr(self, name) for name in ("min_regions", "max_regions", "min_score", "nms")}
        chosen = {name: value for name, value in own.items() if value is not None}
        return replace(POLICIES[catalogue.load(self.detector).selection], **chosen)


@dataclass(frozen=True)
class Tools:
    """The loaded detector and what its shards say about themselves."""

    network: Network
    policy: Policy
    prob_width: int
    metadata: Mapping[str, str]


def checkpoint_file(config: Config) -> Path:
    """The weights that this configuration uses."""
    if config.checkpoint is not None:
        return Path(config.checkpoint)
    return Path(__file__).parent / catalogue.load(config.detector).checkpoint


def family(config: Config) -> Any:
    """The module that knows this detector's family (stages/regions/found.py)."""
    return importlib.import_module(f"stages.regions.{catalogue.load(config.detector).family}")


def resources(config: Config) -> tuple[Path, ...]:
    """The files that decide the result: the detector's settings, its checkpoint, and what its family adds."""
    spec = catalogue.load(config.detector)
    return (catalogue.FOLDER / f"{spec.name}.yaml", *family(config).files(spec, checkpoint_file(config)))


def setup(config: Config, folder: Path) -> Tools:
    """Load the detector. Raises InputError when its checkpoint is missing or does not fit."""
    spec = catalogue.load(config.detector)
    network: Network = family(config).load(spec, checkpoint_file(config))
    network.place(device(config.device), "fp32")
    notes = {
        "detector": spec.name,
        "checkpoint": network.sha256,
        "feature_width": str(network.feature_width),
        "prob_width": str(spec.prob_width),
        "classes": json.dumps(network.classes),
        "attributes": json.dumps(network.attributes),
    }
    return Tools(network, config.policy(), spec.prob_width, notes)


def device(name: str) -> str:
    """The torch device of this name; raises ConfigError if it is not there."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"regions.device is {name!r}: {str(error).splitlines()[0]}", where="params.yaml", fix="set auto or cpu"
        ) from error
    return name


def process(pairs: pa.Table, tools: Tools) -> tuple[pa.Table, pa.Table]:
    """Each image's regions, one image at a time; a damaged picture or a value that does not fit is left out."""
    from stages.regions.extract import decode, extract

    kept: list[tuple[bytes, Regions]] = []
    rejects: list[Reject] = []
    for pair in pairs.select(["image_id", "url", "image"]).to_pylist():
        image_id = pair["image_id"]
        try:
            picture = decode(pair["image"])
        except OSError as error:
            rejects.append(Reject(image_id.hex(), "damaged-image", str(error), pair))
            continue
        regions = extract(picture, tools.network, tools.policy, tools.prob_width)
        problem = bad_value(regions)
        if problem:
            rejects.append(Reject(image_id.hex(), "bad-value", problem, pair))
        else:
            kept.append((image_id, regions))
    return as_table(kept, tools.metadata), quarantine("regions", rejects)


def bad_value(regions: Regions) -> str | None:
    """Which value is NaN, infinite or beyond its column, if any is."""
    for name in ("boxes", "class_scores", "attribute_scores", "features", "prob_values"):
        values = np.asarray(getattr(regions, name))
        if not np.isfinite(values).all():
            return f"{name} has NaN or infinity"
        if name in ("features", "prob_values") and np.abs(values).max(initial=0) > np.finfo(np.float16).max:
            return f"{name} reaches {np.abs(values).max():g}, more than float16 holds"
    return None


def as_table(kept: list[tuple[bytes, Regions]], metadata: Mapping[str, str]) -> pa.Table:
    blobs = {name: [getattr(regions, name) for _, regions in kept] for name in REGIONS_BLOBS}
    counts = [len(regions.boxes) for _, regions in kept]
    return REGIONS.table(
        metadata=metadata,
        image_id=[image_id for image_id, _ in kept],
        num_regions=pa.array(counts, pa.uint8()),
        **blobs,
    )


REGIONS_BLOBS = tuple(column.name for column in REGIONS.columns[2:])

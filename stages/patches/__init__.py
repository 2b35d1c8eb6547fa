"""Stage `patches`: fixed crops of each image as vectors, a grid (FashionBERT) and a pyramid (Kaleido-BERT).

The features are of the pictures as they are, and of what Kaleido-BERT's corruptions need: the first level turned, the
fourth without colour. Which of them is shown is drawn when a batch is made, so that every epoch has other corruptions
(the authors stored one an image), and no byte here depends on a seed or on other rows. Blank pieces are zeros, jigsaws
an order, and the impostor of the third level a stored vector of another image, so none of these needs a pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import ConfigError
from schemas.patches import LEVELS, PATCHES
from schemas.regions import REGIONS
from schemas.rejects import Reject, quarantine
from schemas.table import Array, Blob

if TYPE_CHECKING:  # torch takes seconds to import: only `setup` and `process` do
    from stages.patches.networks import Network

INPUTS = ("curate", "regions")
OUTPUT = PATCHES
VERSION = 1
STARTER = "efficientnet-lite0"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Section `patches` of params.yaml; docs/patches.md says what each costs."""

    grid: int = 8  # cells a side of the whole image, 0 for no grid
    pyramid: bool = True
    foreground: Literal["region", "whole"] = "region"  # whose box the pyramid cuts
    min_share: float = 0.1  # of the image's area, that the best region needs to be the foreground; else the whole image
    network: str = STARTER  # or a model of torchvision, by its name
    checkpoint: str | None = None  # the weights of a torchvision model (.safetensors or .pth)
    size: int = 224  # pixels of a side to which each crop is resized
    batch: int = 16  # crops of one image that go through the network at once
    device: str = "cpu"  # cpu, cuda, cuda:1, …

    def __post_init__(self) -> None:
        for name, number, low, high in (("grid", self.grid, 0, 32), ("size", self.size, 32, 1024)):
            if not low <= number <= high:
                raise ConfigError(f"patches.{name} is {number}", "params.yaml", f"set it from {low} to {high}")
        if not (self.grid or self.pyramid) or self.batch < 1 or not 0 <= self.min_share <= 1:
            raise ConfigError(
                f"patches.grid is {self.grid}, pyramid {self.pyramid}, batch {self.batch}, min_share {self.min_share}",
                "params.yaml",
                "ask for a grid or a pyramid, a batch of 1 or more, and a share from 0 to 1",
            )
        if (self.network == STARTER) != (self.checkpoint is None):
            raise ConfigError(
                f"patches.network is {self.network} and patches.checkpoint {self.checkpoint}",
                "params.yaml",
                f"name the checkpoint of a torchvision model, and none of {STARTER}, which comes with pairloom",
            )


@dataclass(frozen=True)
class Tools:
    """The loaded network, and what the shards say about it."""

    network: Network
    config: Config
    metadata: Mapping[str, str]


def resources(config: Config) -> tuple[Path, ...]:
    """The network's weights."""
    from stages.patches import checkpoint

    return (checkpoint.weights(config.checkpoint),)


def setup(config: Config, folder: Path) -> Tools:
    """Load the network. Raises InputError when its weights are missing or do not fit."""
    from stages.patches import networks

    network = networks.load(config.network, config.checkpoint, config.device)
    notes = {
        "patch_network": config.network,
        "patch_checkpoint": network.sha256,
        "patch_size": str(config.size),
        "patch_width": str(network.width),
        "patch_count": str(config.grid**2),
        "pyramid_count": str(sum(LEVELS) if config.pyramid else 0),
    }
    return Tools(network, config, notes)


def process(curate: pa.Table, regions: pa.Table, tools: Tools) -> tuple[pa.Table, pa.Table]:
    """The crops' vectors of each image, in the order of `curate`; without regions the whole image is the foreground."""
    from stages.patches.crops import Cannot, patches_of

    found = pc.index_in(curate["image_id"], regions["image_id"].combine_chunks()).to_pylist()
    blob = REGIONS.column("boxes").type
    assert isinstance(blob, Blob)
    boxes = [flat.reshape(-1, 4) for flat in blob.unpack(regions["boxes"])]
    rows: list[dict[str, Any]] = []
    rejects: list[Reject] = []
    for number, place in enumerate(found):
        image_id, own = curate["image_id"][number].as_py(), no_boxes() if place is None else boxes[place]
        made = patches_of(curate["image"][number].as_py(), own, tools)
        if isinstance(made, Cannot):
            rejects.append(Reject(image_id.hex(), made.reason, made.detail, _content(curate, number)))
        else:
            rows.append({"image_id": image_id, **made})
    columns = {column.name: [row.get(column.name) for row in rows] for column in PATCHES.columns}
    kept = {
        name: values for name, values in columns.items() if name == "image_id" or any(v is not None for v in values)
    }
    return PATCHES.table(metadata=tools.metadata, **kept), quarantine("patches", rejects)


def no_boxes() -> Array:
    return np.zeros((0, 4), np.float32)


def _content(curate: pa.Table, number: int) -> dict[str, Any]:
    content: dict[str, Any] = curate.select(["image_id", "url", "source"]).slice(number, 1).to_pylist()[0]
    return content

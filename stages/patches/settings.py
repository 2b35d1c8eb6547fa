"""The settings of stage `patches`, and the tools that they ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pairloom.errors import ConfigError

if TYPE_CHECKING:  # torch takes seconds to import: only `setup` and `process` do
    from stages.patches.networks import PatchNetwork

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

    network: PatchNetwork
    config: Config
    metadata: Mapping[str, str]

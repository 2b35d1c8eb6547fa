"""The settings of stage `patches`, and the tools that they ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

from pairloom.errors import ConfigError
from pairloom.typed import Positive, Range, Share, check_ranges
from stages.contract import A_PATH

if TYPE_CHECKING:  # torch takes seconds to import: only `setup` and `process` do
    from stages.patches.networks import PatchNetwork

STARTER = "efficientnet-lite0"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Section `patches` of params.yaml. docs/reference/patches.md says what each costs."""

    grid: Annotated[int, Range(0, 32)] = 8  # cells a side of the whole image, 0 for no grid
    pyramid: bool = True  # Kaleido-BERT's crops of the foreground, at five sizes
    foreground: Literal["region", "whole"] = "region"  # whose box the pyramid cuts
    min_share: Share = 0.1  # of the image's area, that the best region needs to be the foreground, else the whole image
    network: str = STARTER  # the one that comes with pairloom, or a model of torchvision by its name
    # the weights of a torchvision model (.safetensors or .pth)
    checkpoint: str | None = field(default=None, metadata=A_PATH)
    size: Annotated[int, Range(32, 1024)] = 224  # pixels of a side to which each crop is resized
    batch: Positive = 16  # crops of one image that go through the network at once
    device: str = "cpu"  # cpu, cuda, cuda:1, …

    def __post_init__(self) -> None:
        check_ranges(self)
        if not (self.grid or self.pyramid):
            raise ConfigError(
                "patches.grid is 0 and patches.pyramid false", "params.yaml", "ask for a grid or a pyramid"
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

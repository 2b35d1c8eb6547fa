"""The settings of a published Faster R-CNN: what a file of detectors/ of the family `published` may say.

Each setting is one way in which the published detectors differ. The published numbers are in the files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pairloom.errors import ConfigError
from pairloom.typed import check_ranges
from stages.regions.numbers import Numbers

# How a box is measured. continuous: w = x2 − x1. caffe: w = x2 − x1 + 1, but a decoded box ends at centre + w / 2, one
# pixel too far. maskrcnn: w = x2 − x1 + 1 throughout.
BoxRule = Literal["continuous", "caffe", "maskrcnn"]


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published file of weights."""

    file: str
    address: str | None = None  # as published, many are dead, see docs/reference/detector-catalogue.md
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The files that name the classes and attributes, as published; looked for beside the weights."""

    objects: str
    attributes: str | None = None


@dataclass(frozen=True, kw_only=True)
class Input:
    """From a picture to the network's input. Values are 0 to 255."""

    colours: Literal["bgr", "rgb"] = "bgr"
    mean: tuple[float, float, float]  # in the order of `colours`
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    short_side: int
    long_side: int
    # opencv: cv2.resize of floats after subtracting the mean, by one factor. Each side is rounded by OpenCV.
    # pillow: bilinear with antialias on bytes, sides rounded half up (detectron2).
    # interpolate: torch's bilinear without antialias on floats, sides rounded half up (the Hugging Face port).
    # torchvision: bilinear with antialias on bytes, sides truncated (maskrcnn-benchmark).
    resize: Literal["opencv", "pillow", "interpolate", "torchvision"]
    divisible: int = 1  # zeros are added right and below up to a multiple of this (a feature pyramid needs it)


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A ResNet up to stride 16 (C4), or up to stride 32 under a feature pyramid."""

    blocks: tuple[int, ...]  # of res2, res3, res4, and res5 where there is a pyramid
    groups: int = 1
    group_width: int = 64  # channels a group in res2's 3×3 convolution
    stride_in: Literal["1x1", "3x3"] = "1x1"  # which convolution of a block halves the map
    order: Literal["post", "pre"] = "post"  # pre: norm and ReLU come before each convolution (R152 of MILVLG)
    norm_eps: float = 1e-5  # maskrcnn-benchmark's frozen norm has none
    max_pool: Literal["ceil", "padded"] = "padded"  # ceil: no padding, the map's size rounded up (caffe)
    stem_channels: int = 64
    channels: int = 256  # of res2. Each later stage doubles them
    pyramid_channels: int | None = None  # width of the feature pyramid. Null is C4

    @property
    def levels(self) -> int:
        """How many maps the region proposals look at."""
        return 1 if self.pyramid_channels is None else 5

    @property
    def map_channels(self) -> int:
        """Channels of the maps that proposals and regions look at."""
        return self.pyramid_channels or self.channels * 4


@dataclass(frozen=True, kw_only=True)
class Anchors:
    """The boxes that proposals start from, in each cell of a map."""

    # caffe: sides rounded as in the first Faster R-CNN, centred between pixels, ratio after ratio.
    # detectron2: exact sides, centred on the cell's corner, size after size.
    rule: Literal["caffe", "detectron2"]
    sizes: tuple[tuple[int, ...], ...]  # pixels, for each map
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)  # height / width
    offset: float = 0.0  # of the first cell's centre, in cells
    from_checkpoint: bool = False  # the published code reads them from the checkpoint, if they are in it


@dataclass(frozen=True, kw_only=True)
class Suppression:
    """Greedy non-maximum suppression."""

    iou: float
    plus_one: bool = False  # areas of w + 1 by h + 1
    ties: Literal[">", ">="] = ">"  # what an overlap of exactly `iou` does: ">=" suppresses


@dataclass(frozen=True, kw_only=True)
class Proposals:
    """The region proposal network."""

    hidden: int  # channels of its 3×3 convolution
    objectness: Literal["pair", "logit"] = "logit"  # pair: a softmax over (background, foreground)
    anchors: Anchors
    clamp: bool = True  # width and height grow at most by 1000 / 16
    first: Literal["clip", "top"] = "top"  # clip → drop small → best, or best → clip → drop small
    clip_to: Literal["picture", "padded"] = "picture"  # padded: with what `divisible` adds right and below (vmb)
    min_side: float = 0.0  # pixels. Smaller boxes go
    min_side_of: Literal["stored", "resized"] = "resized"  # stored: times the factor by which the picture was resized
    min_side_ties: Literal[">", ">="] = ">"  # which boxes stay
    before_nms: int  # best so many, on each map
    after_nms: int
    nms: Suppression


@dataclass(frozen=True, kw_only=True)
class RegionFeatures:
    """From a proposal to its feature."""

    pool: Literal["roi-pool", "roi-align-legacy", "roi-align"]  # legacy: without the shift by half a pixel
    pool_size: int  # cells a side
    samples: int = 0  # points a cell and side; 0: as many as the region is large
    head: Literal["res5", "fc"]  # fc: two hidden layers
    dilation: int = 1  # of res5. 2 keeps its map as large as the pooled one
    width: int = 2048  # of the hidden layers
    feature: Literal["mean", "fc6", "fc7"]  # what is stored


@dataclass(frozen=True, kw_only=True)
class Attributes:
    """The attribute head: an embedding of the object class beside the feature, one hidden layer."""

    count: int  # without "none"
    embedding: int = 256
    hidden: int = 512
    # softmaxed: "none" is a class whose share is lost; dropped: left out before the softmax; absent: there is none.
    none: Literal["softmaxed", "dropped", "absent"]
    of: Literal["argmax", "detected"] = "argmax"  # the class: argmax with background, or the one that selection gave


@dataclass(frozen=True, kw_only=True)
class FasterRCNN(Numbers):
    """One published detector. `Numbers` are of its selection."""

    name: str
    family: Literal["published"]  # the module of stages/regions that loads it
    about: str  # one line for `detector list`
    licence: str
    source: str  # the repository that published it
    published: tuple[Published, ...]
    layouts: tuple[str, ...]  # key layouts of checkpoints that can be imported, see importing/layouts.py
    vocabulary: Vocabulary
    input: Input
    backbone: Backbone
    proposals: Proposals
    regions: RegionFeatures
    classes: int  # without background
    agnostic: bool = False  # one box a proposal instead of one a class
    box_rule: BoxRule
    box_weights: tuple[float, float, float, float]  # the deltas are divided by these
    boxes: Literal["proposals", "regressed"]  # what the published code stores
    attributes: Attributes | None = None
    selection: str  # a policy of stages/regions/select.py
    prob_width: int = 64  # most probable classes that are stored, if the stage's settings do not say

    def __post_init__(self) -> None:
        check_ranges(self)
        stages, maps = len(self.backbone.blocks), len(self.proposals.anchors.sizes)
        problems = {
            "backbone.blocks": stages != (3 if self.backbone.pyramid_channels is None else 4),
            "proposals.anchors.sizes": maps != self.backbone.levels,
            "regions.head": (self.regions.head == "fc") != (self.backbone.pyramid_channels is not None),
            "regions.feature": (self.regions.feature == "mean") != (self.regions.head == "res5"),
            "regions.dilation": self.regions.dilation not in (1, 2),
        }
        wrong = [name for name, bad in problems.items() if bad]
        if wrong:
            raise ConfigError(
                f"the settings {wrong} of detector {self.name} do not fit each other",
                where=f"detector {self.name}",
                fix="compare with the other files of stages/regions/detectors",
            )

    @property
    def feature_width(self) -> int:
        """Length of the stored feature vector."""
        return self.regions.width if self.regions.head == "fc" else self.backbone.channels * 8

    @property
    def num_anchors(self) -> int:
        """Anchors a cell, equal on all maps."""
        return len(self.proposals.anchors.sizes[0]) * len(self.proposals.anchors.ratios)

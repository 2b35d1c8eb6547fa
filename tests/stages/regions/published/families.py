"""What is known of each published detector, spelled out from its repository and not read from the catalogue.

A `Family` says how the original code computes, for the oracle. `Names` how its checkpoint calls a tensor, for both the
oracle and the generator of checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

NORM = ("weight", "bias", "running_mean", "running_var")


class Names(Protocol):
    """Keys of a published checkpoint. Stages are 2 to 5, branches are 1, 2, 3 and "shortcut"."""

    @property
    def parts(self) -> dict[str, str]: ...  # of the heads: our word -> published prefix
    def stem(self) -> tuple[str, str]: ...  # (convolution, norm)
    def block(self, stage: int, block: int, branch: int | str) -> tuple[str, str]: ...


@dataclass(frozen=True)
class Detectron2Names:
    parts: dict[str, str]
    bottom_up: str = "backbone"
    res5: str = "roi_heads"

    def stem(self) -> tuple[str, str]:
        return f"{self.bottom_up}.stem.conv1", f"{self.bottom_up}.stem.conv1.norm"

    def block(self, stage: int, block: int, branch: int | str) -> tuple[str, str]:
        name = "shortcut" if branch == "shortcut" else f"conv{branch}"
        key = f"{self.res5 if stage == 5 else self.bottom_up}.res{stage}.{block}.{name}"
        return key, f"{key}.norm"


@dataclass(frozen=True)
class MaskrcnnNames:
    parts: dict[str, str]
    res5: str

    def stem(self) -> tuple[str, str]:
        return "backbone.body.stem.conv1", "backbone.body.stem.bn1"

    def block(self, stage: int, block: int, branch: int | str) -> tuple[str, str]:
        key = f"{self.res5 if stage == 5 else 'backbone.body'}.layer{stage - 1}.{block}"
        if branch == "shortcut":
            return f"{key}.downsample.0", f"{key}.downsample.1"
        return f"{key}.conv{branch}", f"{key}.bn{branch}"


@dataclass(frozen=True)
class CaffeNames:
    """Layer names. The generator splits a norm into caffe's BatchNorm and Scale."""

    parts: dict[str, str]

    def stem(self) -> tuple[str, str]:
        return "conv1", "_conv1"

    def block(self, stage: int, block: int, branch: int | str) -> tuple[str, str]:
        letter = "abc"[block] if stage in (2, 5) else ("a" if block == 0 else f"b{block}")
        name = f"{stage}{letter}_branch{'1' if branch == 'shortcut' else '2' + 'abc'[int(branch) - 1]}"
        return f"res{name}", name


D2_RPN = {
    "rpn.conv": "proposal_generator.rpn_head.conv",
    "rpn.scores": "proposal_generator.rpn_head.objectness_logits",
    "rpn.deltas": "proposal_generator.rpn_head.anchor_deltas",
    "rpn.anchors": "proposal_generator.anchor_generator.cell_anchors",
    "classes": "roi_heads.box_predictor.cls_score",
    "boxes": "roi_heads.box_predictor.bbox_pred",
}
MASKRCNN_RPN = {
    "rpn.conv": "rpn.head.conv",
    "rpn.scores": "rpn.head.cls_logits",
    "rpn.deltas": "rpn.head.bbox_pred",
    "rpn.anchors": "rpn.anchor_generator.cell_anchors",
    "classes": "roi_heads.box.predictor.cls_score",
    "boxes": "roi_heads.box.predictor.bbox_pred",
}
CAFFE = CaffeNames(
    {
        "rpn.conv": "rpn_conv/3x3",
        "rpn.scores": "rpn_cls_score",
        "rpn.deltas": "rpn_bbox_pred",
        "classes": "cls_score",
        "boxes": "bbox_pred",
        "embedding": "cls_embedding",
        "attr.hidden": "fc_attr",
        "attr.score": "attr_score",
    }
)
HF = Detectron2Names(
    D2_RPN
    | {
        "embedding": "roi_heads.box_predictor.cls_embedding",
        "attr.hidden": "roi_heads.box_predictor.fc_attr",
        "attr.score": "roi_heads.box_predictor.attr_score",
    }
)
MILVLG = Detectron2Names(
    D2_RPN
    | {
        "embedding": "roi_heads.box_predictor.cls_embed",
        "attr.hidden": "roi_heads.box_predictor.attr_linear1",
        "attr.score": "roi_heads.box_predictor.attr_linear2",
    }
)
MILVLG_D2 = Detectron2Names(
    D2_RPN
    | {
        "embedding": "roi_heads.attribute_predictor.obj_embed",
        "attr.hidden": "roi_heads.attribute_predictor.fc.0",
        "attr.score": "roi_heads.attribute_predictor.attr_score",
    }
)
VINVL = MaskrcnnNames(
    MASKRCNN_RPN
    | {
        "embedding": "attribute.predictor.cls_embedding",
        "attr.hidden": "attribute.predictor.fc_attr",
        "attr.score": "attribute.predictor.attr_score",
    },
    res5="roi_heads.box.feature_extractor.head",
)
VMB = MaskrcnnNames(
    MASKRCNN_RPN | {"fc6": "roi_heads.box.feature_extractor.fc6", "fc7": "roi_heads.box.feature_extractor.fc7"},
    res5="backbone.body",
)


@dataclass(frozen=True)
class Family:
    """How the original code computes. Numbers that a test shrinks are in `Small`."""

    detector: str
    names: Names
    container: str  # caffemodel, pkl, bin or pth
    mean: tuple[float, float, float] = (102.9801, 115.9465, 122.7717)
    resize: str = "cv2"
    groups: int = 1
    stride_in: int = 1  # 1: the first 1×1 convolution; 3: the 3×3
    eps: float = 1e-5
    ceil_pool: bool = False
    pre_activation: bool = False
    pyramid: bool = False
    pair: bool = False  # objectness by softmax of two
    caffe_anchors: bool = True
    sizes: tuple[int, ...] = (64, 128, 256, 512)
    plus: int = 1  # w = x2 − x1 + plus
    decode_less: int = 0  # maskrcnn ends a decoded box one pixel earlier
    clamp: bool = True
    filter_first: bool = False  # clip and drop before taking the best
    least: float = 0  # pixels of the stored picture
    least_kept: bool = False  # a box of exactly that size stays
    clip_padded: bool = False  # boxes may end in the padding: the fork's image_sizes are those of its batch
    nms_plus: int = 1
    pool: str = "roi_pool"
    pool_size: int = 14
    samples: int = 0
    dilation: int = 1
    background_first: bool = True
    box_weights: tuple[float, ...] = (10, 10, 5, 5)
    regressed: bool = False
    none: str = "softmaxed"
    attributes: bool = True
    detected_class: bool = False
    counters: bool = False  # num_batches_tracked is in the file
    stored_anchors: bool = False


BUTD = Family(
    detector="butd-r101",
    names=CAFFE,
    container="caffemodel",
    ceil_pool=True,
    pair=True,
    clamp=False,
    filter_first=True,
    least=16,
    least_kept=True,
    dilation=2,
    box_weights=(1, 1, 1, 1),
)
HUGGING_FACE = Family(
    detector="butd-r101-hf",
    names=HF,
    container="bin",
    counters=True,
    stored_anchors=True,
    resize="interpolate",
    ceil_pool=True,
    caffe_anchors=False,
    plus=0,
    nms_plus=0,
    dilation=2,
    background_first=False,
    regressed=True,
    none="dropped",
)
MILVLG_R101 = replace(
    BUTD,
    detector="milvlg-r101",
    names=MILVLG,
    container="pth",
    counters=True,
    stored_anchors=True,
    clamp=True,
    least_kept=False,
)
MILVLG_R152 = replace(
    MILVLG_R101,
    detector="milvlg-r152",
    mean=(0, 0, 0),
    pre_activation=True,
    eps=2e-5,
    stride_in=3,
    dilation=1,
)
D2_R101 = Family(
    detector="milvlg-d2-r101",
    names=MILVLG_D2,
    container="pth",
    mean=(103.530, 116.280, 123.675),
    caffe_anchors=False,
    sizes=(32, 64, 128, 256, 512),
    plus=0,
    nms_plus=0,
    pool="roi_align",
    samples=2,
    background_first=False,
    regressed=True,
    none="absent",
)
VMB_X152 = Family(
    detector="vmb-x152",
    names=VMB,
    container="pth",
    groups=32,
    stride_in=3,
    eps=0,
    pyramid=True,
    sizes=(32, 64, 128, 256, 512),
    stored_anchors=True,
    decode_less=1,
    least_kept=True,
    pool="roi_align_legacy",
    pool_size=7,
    samples=2,
    clip_padded=True,
    attributes=False,
)
VINVL_X152 = Family(
    detector="vinvl-x152c4",
    names=VINVL,
    container="pth",
    mean=(103.530, 116.280, 123.675),
    resize="torchvision",
    groups=32,
    stride_in=3,
    eps=0,
    sizes=(32, 64, 128, 256, 512),
    stored_anchors=True,
    decode_less=1,
    least_kept=True,
    nms_plus=0,
    pool="roi_align_legacy",
    detected_class=True,
)
FAMILIES = (
    BUTD,
    HUGGING_FACE,
    MILVLG_R101,
    MILVLG_R152,
    D2_R101,
    replace(D2_R101, detector="milvlg-d2-r50"),
    replace(D2_R101, detector="milvlg-d2-x152", groups=32, stride_in=3, pool_size=7),
    VMB_X152,
    replace(VMB_X152, detector="vmb-x101", groups=64),
    VINVL_X152,
)


@dataclass(frozen=True)
class Small:
    """A network of the family's form that two cores can run."""

    blocks: tuple[int, ...] = (2, 1, 2)
    stem: int = 8
    channels: int = 16
    group_width: int = 4
    pyramid: int = 16
    hidden: int = 16
    width: int = 24
    classes: int = 12
    attributes: int = 5
    embedding: int = 6
    attr_hidden: int = 10
    before_nms: int = 400
    after_nms: int = 25
    short_side: int = 120
    long_side: int = 200

    def overrides(self, family: Family) -> dict[str, Any]:
        """The catalogue file that is the published one at this size."""
        proposals = {"hidden": self.hidden, "before_nms": self.before_nms, "after_nms": self.after_nms}
        changed: dict[str, Any] = {
            "base": family.detector,
            "input": {"short_side": self.short_side, "long_side": self.long_side},
            "backbone": {
                "blocks": list(self.blocks),
                "stem_channels": self.stem,
                "channels": self.channels,
                "group_width": self.group_width,
            },
            "proposals": proposals,
            "regions": {"width": self.width},
            "classes": self.classes,
        }
        if family.pyramid:
            changed["backbone"]["pyramid_channels"] = self.pyramid
        if family.attributes:
            changed["attributes"] = {"count": self.attributes, "embedding": self.embedding, "hidden": self.attr_hidden}
        return changed


def small(family: Family) -> Small:
    blocks = (2, 1, 2, 1) if family.pyramid else (2, 1, 2)
    return Small(blocks=blocks, group_width=4 if family.groups == 1 else 1)

"""The key layouts of published checkpoints: how their names become ours, and in what form they hold some tensors.

Ours are the names in the state dict of published/network.py. There, background and "none" are the last class.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

COUNTERS = r"num_batches_tracked$"  # of a training norm. They have no effect


@dataclass(frozen=True)
class Layout:
    """How one family of checkpoints names its tensors."""

    names: tuple[tuple[str, str], ...]  # (pattern of the whole name, ours), the first that fits counts
    unused: tuple[str, ...] = (COUNTERS,)  # patterns of tensors that the detector does not need
    background: Literal["first", "last"] = "last"
    objectness: Literal["pair", "logit"] = "logit"
    anchors: Literal["ratio-major", "size-major"] = "size-major"
    box_weights: tuple[float, float, float, float] = (10, 10, 5, 5)
    twins: tuple[tuple[str, str], ...] = ()  # (pattern of a repeated tensor, name of the first one): must be equal
    before: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] | None = field(default=None, repr=False)


def _caffe_names(blobs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A caffemodel's blobs under ResNet names: BatchNorm's sums are divided by its counter, and joined with Scale's."""
    found: dict[str, Tensor] = {}
    for key, blob in blobs.items():
        while blob.dim() > 1 and len(blob) == 1:  # files of 2014 have four sides, 1 × 1 × rows × columns
            blob = blob[0]
        layer, _, number = key.rpartition("/")
        if layer.startswith("bn") and number in "01" and f"{layer}/2" in blobs:
            total = float(blobs[f"{layer}/2"].flatten()[0])
            part = ("running_mean", "running_var")[int(number)]
            found[f"{_norm_of(layer.removeprefix('bn').removeprefix('_'))}.{part}"] = blob * (1 / total if total else 0)
        elif layer.startswith("bn") and number == "2":
            continue
        elif layer.startswith("scale") and number in "01":
            part = ("weight", "bias")[int(number)]
            found[f"{_norm_of(layer.removeprefix('scale').removeprefix('_'))}.{part}"] = blob
        else:
            found[f"{_convolution(layer)}.{('weight', 'bias')[int(number)] if number in '01' else number}"] = blob
    return found


def _norm_of(name: str) -> str:
    """ "conv1" → "conv1.norm", "2a_branch1" → "res2.0.shortcut.norm": a norm is called like its convolution."""
    return f"{_convolution(name if name == 'conv1' else f'res{name}')}.norm"


BRANCHES = {"1": "shortcut", "2a": "conv1", "2b": "conv2", "2c": "conv3"}


def _convolution(layer: str) -> str:
    """ "res4b22_branch2a" → "res4.22.conv1". Blocks are called a, b, c, or a, b1, b2, …. Other names stay."""
    parts = re.fullmatch(r"res(\d)([a-z])(\d*)_branch(1|2[abc])", layer)
    if parts is None:
        return layer
    stage, letter, number, branch = parts.groups()
    block = int(number) if number else ord(letter) - ord("a")
    return f"res{stage}.{block}.{BRANCHES[branch]}"


D2_RPN = (
    (r"proposal_generator\.rpn_head\.(.+)", r"rpn.head.\1"),
    (r"proposal_generator\.anchor_generator\.(cell_anchors\.\d+)", r"rpn.\1"),
)
D2_C4 = (
    (r"(backbone\.(?:stem|res[234])\..+)", r"\1"),
    *D2_RPN,
    (r"roi_heads\.(res5\..+)", r"head.\1"),
    (r"roi_heads\.box_predictor\.((?:cls_score|bbox_pred)\..+)", r"predictor.\1"),
)
MASKRCNN_RPN = (
    (r"rpn\.head\.conv\.(.+)", r"rpn.head.conv.\1"),
    (r"rpn\.head\.cls_logits\.(.+)", r"rpn.head.objectness_logits.\1"),
    (r"rpn\.head\.bbox_pred\.(.+)", r"rpn.head.anchor_deltas.\1"),
    (r"rpn\.anchor_generator\.(cell_anchors\.\d+)", r"rpn.\1"),
    (r"roi_heads\.box\.predictor\.((?:cls_score|bbox_pred)\..+)", r"predictor.\1"),
)


def _maskrcnn_body(ours: str, stages: tuple[int, ...]) -> tuple[tuple[str, str], ...]:
    """Names of maskrcnn-benchmark's ResNet. Its layer1 is res2."""
    stem = (
        (r"backbone\.body\.stem\.conv1\.weight", f"{ours}.stem.conv1.weight"),
        (r"backbone\.body\.stem\.bn1\.(\w+)", rf"{ours}.stem.conv1.norm.\1"),
    )
    blocks = (_maskrcnn_stage(rf"backbone\.body\.layer{stage}", f"{ours}.res{stage + 1}") for stage in stages)
    return (*stem, *(name for stage in blocks for name in stage))


def _maskrcnn_stage(theirs: str, ours: str) -> tuple[tuple[str, str], ...]:
    return (
        (rf"{theirs}\.(\d+)\.(conv\d)\.weight", rf"{ours}.\1.\2.weight"),
        (rf"{theirs}\.(\d+)\.bn(\d)\.(\w+)", rf"{ours}.\1.conv\2.norm.\3"),
        (rf"{theirs}\.(\d+)\.downsample\.0\.weight", rf"{ours}.\1.shortcut.weight"),
        (rf"{theirs}\.(\d+)\.downsample\.1\.(\w+)", rf"{ours}.\1.shortcut.norm.\2"),
    )


SHARED = "roi_heads.box.feature_extractor."
LAYOUTS = {
    # peteanderson80/bottom-up-attention
    "caffe": Layout(
        names=(
            (r"(conv1\..+)", r"backbone.stem.\1"),
            (r"(res[234]\..+)", r"backbone.\1"),
            (r"(res5\..+)", r"head.\1"),
            (r"rpn_conv/3x3\.(.+)", r"rpn.head.conv.\1"),
            (r"rpn_cls_score\.(.+)", r"rpn.head.objectness_logits.\1"),
            (r"rpn_bbox_pred\.(.+)", r"rpn.head.anchor_deltas.\1"),
            (r"((?:cls_score|bbox_pred)\..+)", r"predictor.\1"),
            (r"((?:cls_embedding|fc_attr|attr_score)\..+)", r"attributes.\1"),
        ),
        background="first",
        objectness="pair",
        anchors="ratio-major",
        box_weights=(1, 1, 1, 1),
        before=_caffe_names,
    ),
    # airsplay/py-bottom-up-attention and transformers' modeling_frcnn
    "detectron2-vg": Layout(
        names=(*D2_C4, (r"roi_heads\.box_predictor\.((?:cls_embedding|fc_attr|attr_score)\..+)", r"attributes.\1")),
    ),
    # MILVLG/bottom-up-attention.pytorch, its caffe mode
    "milvlg-caffe": Layout(
        names=(
            *D2_C4,
            (r"roi_heads\.res5_bn\.(.+)", r"head.norm.\1"),
            (r"roi_heads\.box_predictor\.cls_embed\.(.+)", r"attributes.cls_embedding.\1"),
            (r"roi_heads\.box_predictor\.attr_linear1\.(.+)", r"attributes.fc_attr.\1"),
            (r"roi_heads\.box_predictor\.attr_linear2\.(.+)", r"attributes.attr_score.\1"),
        ),
        background="first",
        objectness="pair",
        anchors="ratio-major",
        box_weights=(1, 1, 1, 1),
    ),
    # the same repository, its detectron2 mode
    "milvlg-d2": Layout(
        names=(
            *D2_C4,
            (r"roi_heads\.attribute_predictor\.obj_embed\.(.+)", r"attributes.cls_embedding.\1"),
            (r"roi_heads\.attribute_predictor\.fc\.0\.(.+)", r"attributes.fc_attr.\1"),
            (r"roi_heads\.attribute_predictor\.attr_score\.(.+)", r"attributes.attr_score.\1"),
        ),
        unused=(COUNTERS, r"pixel_(mean|std)$"),
    ),
    # microsoft/scene_graph_benchmark
    "vinvl": Layout(
        names=(
            *_maskrcnn_body("backbone", (1, 2, 3)),
            *_maskrcnn_stage(r"roi_heads\.box\.feature_extractor\.head\.layer4", "head.res5"),
            *MASKRCNN_RPN,
            (r"attribute\.predictor\.((?:cls_embedding|fc_attr|attr_score)\..+)", r"attributes.\1"),
        ),
        background="first",
        anchors="ratio-major",
        twins=((r"attribute\.feature_extractor\.(.+)", SHARED + r"\1"),),
    ),
    # vqa-maskrcnn-benchmark, the fork of ViLBERT 12-in-1, Pythia and MMF
    "vmb": Layout(
        names=(
            *_maskrcnn_body("backbone.bottom_up", (1, 2, 3, 4)),
            *((rf"backbone\.fpn\.fpn_inner{n}\.(.+)", rf"backbone.fpn_lateral{n + 1}.\1") for n in (1, 2, 3, 4)),
            *((rf"backbone\.fpn\.fpn_layer{n}\.(.+)", rf"backbone.fpn_output{n + 1}.\1") for n in (1, 2, 3, 4)),
            *MASKRCNN_RPN,
            (r"roi_heads\.box\.feature_extractor\.(fc[67]\..+)", r"head.\1"),
        ),
        # Its attribute head served training alone.
        unused=(COUNTERS, r"^roi_heads\.box\.predictor\.(cls_embed|attr_linear1|attr_linear2)\."),
        background="first",
        anchors="ratio-major",
    ),
    # detectron2's own models with a C4 or a pyramid backbone. Masks and keypoints are no regions
    "detectron2": Layout(
        names=(
            *D2_C4,
            (r"(backbone\.(?:bottom_up\.(?:stem|res[2345])|fpn_lateral[2345]|fpn_output[2345])\..+)", r"\1"),
            (r"roi_heads\.box_head\.fc1\.(.+)", r"head.fc6.\1"),
            (r"roi_heads\.box_head\.fc2\.(.+)", r"head.fc7.\1"),
        ),
        unused=(COUNTERS, r"^pixel_(mean|std)$", r"^roi_heads\.(mask|keypoint)_", r"^__"),
    ),
}

"""From proposals to features, class scores, boxes and attributes.

Letters: R regions, C object classes, A attributes, D feature width, M channels of the map, S cells a side.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align, roi_pool

from stages.regions.contract import Precision
from stages.regions.d2 import FrozenBatchNorm2d
from stages.regions.published import backbone, boxes
from stages.regions.published.fused import FUSES, FusedBlocks
from stages.regions.published.settings import Attributes, FasterRCNN
from stages.regions.published.sparing import Cells, SparingBlocks, distinct, spares


class RegionPool(nn.Module):
    """Cuts each region out of the map that suits its size, on a grid of equal cells."""

    def __init__(self, settings: FasterRCNN) -> None:
        super().__init__()
        self.rules = settings.regions
        self.plus = boxes.extra(settings.box_rule)
        pyramid = settings.backbone.pyramid_channels is not None
        self.strides = (4, 8, 16, 32) if pyramid else (16,)
        self.once = False  # RoIPool's equal cells are given once, as a sparing head wants them

    def forward(self, maps: Sequence[Tensor], rois_R5: Tensor) -> Tensor | Cells:
        """(R, M, S, S); rois are (picture, x1, y1, x2, y2)."""
        if self.once:
            return distinct(maps[0].float(), rois_R5, self.rules.pool_size, roi_pool)
        if len(self.strides) == 1:
            return self._pool(maps[0], rois_R5, 16)
        level_R = self._levels(rois_R5)
        size = self.rules.pool_size
        pooled = maps[0].new_zeros(len(rois_R5), maps[0].shape[1], size, size)
        for level, stride in enumerate(self.strides):
            rows = (level_R == level).nonzero()[:, 0]
            pooled[rows] = self._pool(maps[level], rois_R5[rows], stride)
        return pooled

    def _levels(self, rois_R5: Tensor) -> Tensor:
        """Equation 1 of arXiv:1612.03144: a region of 224 × 224 is cut from the map of stride 16."""
        sides_R2 = rois_R5[:, 3:] - rois_R5[:, 1:3] + self.plus
        tiny = 1e-6 if self.plus else 1e-8  # maskrcnn-benchmark's and detectron2's guard against log 0
        level_R = torch.floor(4 + torch.log2(sides_R2.prod(dim=1).clamp(min=0).sqrt() / 224 + tiny))
        return level_R.clamp(2, 5).long() - 2

    def _pool(self, map_NMHW: Tensor, rois_R5: Tensor, stride: int) -> Tensor:
        # In float32: bfloat16 counts pixels from 512 on by fours, and the CPU's kernels know no narrow type.
        wide_NMHW, size, scale = map_NMHW.float(), self.rules.pool_size, 1 / stride
        if self.rules.pool == "roi-pool":
            pooled = roi_pool(wide_NMHW, rois_R5, size, scale)
        else:
            # Zero samples: as many as the region has cells. torchvision takes -1 for that, as for 0.
            pooled = roi_align(wide_NMHW, rois_R5, size, scale, self.rules.samples, self.rules.pool == "roi-align")
        # Channels last, as the head's convolutions want it.
        return pooled.to(map_NMHW.dtype, memory_format=torch.channels_last)  # type: ignore[no-any-return]


class Res5Head(nn.Module):
    """The last stage of the ResNet on each pooled region, averaged."""

    def __init__(self, settings: FasterRCNN) -> None:
        super().__init__()
        dilation = settings.regions.dilation
        blocks = backbone.stage(settings.backbone, 3, 3, stride=2 if dilation == 1 else 1, dilation=dilation)
        self.res5 = nn.Sequential(*blocks)
        self.side, self.roi_pool = settings.regions.pool_size, settings.regions.pool == "roi-pool"
        self.sparing: SparingBlocks | FusedBlocks | None = None
        self.pre = settings.backbone.order == "pre"
        if self.pre:
            self.norm = FrozenBatchNorm2d(settings.feature_width, settings.backbone.norm_eps)

    def spare(self, device: str, precision: Precision) -> bool:
        """Take the way that saves time on the device, or the plain one. Returns whether it is taken."""
        blocks, self.sparing = list(self.res5), None
        if self.pre:
            return False
        if precision == "fp32" and spares(blocks, self.side):
            self.sparing = SparingBlocks(blocks, self.side)
        elif FUSES and device.startswith("cuda") and self.roi_pool:
            self.sparing = FusedBlocks(blocks)
        return self.sparing is not None

    def enter(self, map_NMHW: Tensor) -> Tensor:
        """The map as proposals and regions see it: a pre-activation network's passes the norm of res5 first."""
        return self.res5[0].activated(map_NMHW) if self.pre else map_NMHW  # type: ignore[operator]

    def forward(self, pooled: Tensor | Cells) -> tuple[Tensor, Tensor]:
        """(input of the class head, stored feature): twice the same (R, D)."""
        if self.sparing is not None:
            features_RD = self.sparing(pooled)  # type: ignore[arg-type]  # FusedBlocks is taken where equal cells come once
        else:
            assert isinstance(pooled, Tensor)
            features_RD = self.map(pooled).mean(dim=(2, 3))
        return features_RD, features_RD

    def map(self, x_NMHW: Tensor) -> Tensor:
        """The last stage's map of regions, or of whole pictures."""
        if not self.pre:
            return self.res5(x_NMHW)  # type: ignore[no-any-return]
        first = self.res5[0].after_activation(x_NMHW, x_NMHW)  # type: ignore[operator]
        return F.relu_(self.norm(self.res5[1:](first)))


class TwoLayerHead(nn.Module):
    """Two hidden layers on each pooled region."""

    def __init__(self, settings: FasterRCNN) -> None:
        super().__init__()
        rules = settings.regions
        self.fc6 = nn.Linear(settings.backbone.map_channels * rules.pool_size**2, rules.width)
        self.fc7 = nn.Linear(rules.width, rules.width)
        self.stores_first = rules.feature == "fc6"

    def enter(self, map_NMHW: Tensor) -> Tensor:
        return map_NMHW

    def forward(self, pooled_RMSS: Tensor) -> tuple[Tensor, Tensor]:
        """(input of the class head, stored feature), both (R, D)."""
        first_RD = F.relu(self.fc6(pooled_RMSS.flatten(1)))
        second_RD = F.relu(self.fc7(first_RD))
        return second_RD, first_RD if self.stores_first else second_RD


class Predictor(nn.Module):
    """Class scores and box deltas. Background is the last class."""

    def __init__(self, settings: FasterRCNN) -> None:
        super().__init__()
        self.cls_score = nn.Linear(settings.feature_width, settings.classes + 1)
        self.bbox_pred = nn.Linear(settings.feature_width, 4 if settings.agnostic else 4 * settings.classes)

    def boxes(self, features_RD: Tensor, proposals_R4: Tensor, settings: FasterRCNN) -> Tensor:
        """Proposals moved for each class, (R, C, 4), or (R, 4) where the head has one box for all."""
        deltas = self.bbox_pred(features_RD).unflatten(1, (-1, 4))
        moved = boxes.decode(proposals_R4, deltas, settings.box_rule, settings.box_weights)
        return moved[:, 0] if settings.agnostic else moved


class AttributeHead(nn.Module):
    """What a region is like, from its feature and its class. "none" is the last attribute where there is one."""

    def __init__(self, rules: Attributes, classes: int, width: int) -> None:
        super().__init__()
        self.none = rules.none
        self.cls_embedding = nn.Embedding(classes + 1, rules.embedding)
        self.fc_attr = nn.Linear(width + rules.embedding, rules.hidden)
        self.attr_score = nn.Linear(rules.hidden, rules.count + (rules.none != "absent"))

    def forward(self, features_RD: Tensor, class_R: Tensor) -> Tensor:
        """Probabilities (R, A) without "none"."""
        x = torch.cat([features_RD, self.cls_embedding(class_R)], dim=1)
        logits_RA = self.attr_score(F.relu(self.fc_attr(x))).float()
        if self.none == "dropped":
            return logits_RA[:, :-1].softmax(dim=1)  # type: ignore[no-any-return]
        probs_RA = logits_RA.softmax(dim=1)
        return probs_RA if self.none == "absent" else probs_RA[:, :-1]  # type: ignore[no-any-return]

"""A published detector: its parts put together by its settings, and the way of a batch of pictures through them.

Letters: N pictures of a batch, R regions of all of them, C classes, A attributes, D feature width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.regions.contract import Detections, Precision, pooled_grid
from stages.regions.precision import cast, warn_if_slow
from stages.regions.published import backbone, boxes, picture
from stages.regions.published.heads import AttributeHead, Predictor, RegionPool, Res5Head, TwoLayerHead
from stages.regions.published.rpn import ProposalNetwork
from stages.regions.published.settings import FasterRCNN


class PublishedDetector(nn.Module):
    """The model of any entry of the catalogue of the family `published`."""

    def __init__(self, settings: FasterRCNN) -> None:
        super().__init__()
        self.settings = settings
        self.dtype = torch.float32
        self.regions_at_once = 300  # memory of the head's activations: about 5 MB a region with a dilated res5
        self.backbone = backbone.build(settings.backbone)
        self.rpn = ProposalNetwork(settings)
        self.pool = RegionPool(settings)
        self.head = (Res5Head if settings.regions.head == "res5" else TwoLayerHead)(settings)
        self.predictor = Predictor(settings)
        self.attributes = None
        if settings.attributes is not None:
            self.attributes = AttributeHead(settings.attributes, settings.classes, settings.feature_width)

    def place(self, device: str, precision: Precision) -> None:
        """Convolutions and hidden layers in this precision. Anchors, class scores, boxes and attributes in float32."""
        warn_if_slow(device, precision)
        self.to(device)
        for part in (self.backbone, self.rpn.head, self.head):
            self.dtype = cast(part, device, precision)
        if isinstance(self.head, Res5Head):
            self.pool.once = self.head.spare(device, precision) and self.head.roi_pool
            # Of cells that come once the head takes few at a time by itself. A GPU is asked once which are equal.
            self.regions_at_once = 1200 if self.pool.once and device.startswith("cuda") else 300

    def maps(self, images_N3HW: Tensor) -> list[Tensor]:
        """The feature maps of prepared pictures, finest first. One of stride 16 without a pyramid."""
        x = picture.normalised(images_N3HW, self.settings.input)
        height, width = picture.padded((x.shape[-2], x.shape[-1]), self.settings.input)
        x = F.pad(x, (0, width - x.shape[-1], 0, height - x.shape[-2])).to(self.dtype)
        return [self.head.enter(each) for each in self.backbone(x).values()]

    @torch.inference_mode()
    def detect(self, images_N3HW: Tensor, picture_sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        """What is in prepared pictures of one size; picture_sizes: (height, width) of the stored pictures."""
        height, width = images_N3HW.shape[-2:]
        maps = self.maps(images_N3HW)
        scales = [picture.factor(size, self.settings.input) for size in picture_sizes]
        proposals = self.rpn(maps, self._bounds((height, width)), scales)
        heads, features = self._features(maps, proposals)
        counts = [len(each) for each in proposals]
        parts = zip(proposals, heads.split(counts), features.split(counts), strict=True)
        found = [self._found((height, width), *each) for each in parts]
        if isinstance(self.head, TwoLayerHead):
            return found  # its layers know one size of region only
        return [replace(one, grid=partial(self._grid, each)) for one, each in zip(found, maps[0].split(1), strict=True)]

    def _bounds(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) that boxes are clipped to, for a prepared picture of this size."""
        if self.settings.proposals.clip_to == "picture":
            return size
        return picture.padded(size, self.settings.input)

    @torch.inference_mode()
    def _grid(self, map_1CHW: Tensor, side: int) -> Tensor:
        assert isinstance(self.head, Res5Head)
        return pooled_grid(self.head.map(map_1CHW), side)

    def _features(self, maps: Sequence[Tensor], proposals: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """(input of the class head, stored feature) of all proposals, a few regions at a time."""
        rois_R5 = torch.cat([F.pad(each, (1, 0), value=n) for n, each in enumerate(proposals)])
        parts = [self.head(self.pool(maps, some)) for some in rois_R5.split(self.regions_at_once)]
        return torch.cat([part[0] for part in parts]).float(), torch.cat([part[1] for part in parts]).float()

    def _found(self, size: tuple[int, int], proposals_R4: Tensor, head_RD: Tensor, features_RD: Tensor) -> Detections:
        settings = self.settings
        logits_RC1 = self.predictor.cls_score(head_RD).float()
        probs_RC = logits_RC1.softmax(dim=1)[:, :-1]
        regions = proposals_R4
        if settings.boxes == "regressed":
            moved = self.predictor.boxes(head_RD, proposals_R4, settings)
            regions = boxes.clip(moved, self._bounds(size), settings.box_rule)
        return Detections(
            size=size,
            proposals_N4=proposals_R4,
            boxes=regions,
            scores_NC=probs_RC,
            probs_NC=probs_RC,
            features_ND=features_RD,
            attributes=self._attributes(head_RD, logits_RC1.argmax(dim=1)),
        )

    def _attributes(self, head_RD: Tensor, argmax_R: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """Attribute probabilities of some regions, given the classes that selection gave them."""
        head, rules = self.attributes, self.settings.attributes

        @torch.inference_mode()
        def probabilities(rows_K: Tensor, classes_K: Tensor) -> Tensor:
            if head is None or rules is None:
                return head_RD.new_zeros(len(rows_K), 0)
            class_K = classes_K if rules.of == "detected" else argmax_R[rows_K]
            return head(head_RD[rows_K], class_K)  # type: ignore[no-any-return]

        return probabilities


@lru_cache(maxsize=64)
def shapes(settings: FasterRCNN) -> dict[str, torch.Size]:
    """The tensors that a detector is made of. Nothing is computed."""
    with torch.device("meta"):
        return {name: value.shape for name, value in PublishedDetector(settings).state_dict().items()}

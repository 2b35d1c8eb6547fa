"""Region proposals: detectron2's head, and the published ways from its output to the proposals of a picture.

Letters: N pictures, L maps, P anchors of a picture, A anchors of a cell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stages.regions.d2 import StandardRPNHead
from stages.regions.published import anchors, boxes
from stages.regions.published.settings import FasterRCNN


class ProposalNetwork(nn.Module):
    """A small network on each map that says how likely each anchor holds a thing, and how to move it onto it."""

    def __init__(self, settings: FasterRCNN) -> None:
        super().__init__()
        self.rules, self.box_rule = settings.proposals, settings.box_rule
        channels, count = settings.backbone.map_channels, settings.num_anchors
        self.head = StandardRPNHead(in_channels=channels, num_anchors=count, conv_dims=[self.rules.hidden])
        if self.rules.objectness == "pair":
            self.head.objectness_logits = nn.Conv2d(self.rules.hidden, 2 * count, kernel_size=1)
        first = 4 if settings.backbone.pyramid_channels is None else 2
        self.strides = [2 ** (first + level) for level in range(settings.backbone.levels)]
        self.cell_anchors = nn.Module()  # buffers, because some published code reads them from the checkpoint
        for level, (stride, sizes) in enumerate(zip(self.strides, self.rules.anchors.sizes, strict=True)):
            self.cell_anchors.register_buffer(str(level), anchors.cell_anchors(self.rules.anchors, stride, sizes))

    def forward(
        self, maps: Sequence[Tensor], sizes: Sequence[tuple[int, int]], scales: Sequence[float]
    ) -> list[Tensor]:
        """The proposals of each picture, best first: (up to after_nms, 4).

        sizes: (height, width) of each resized picture; scales: by how much it was enlarged.
        """
        logits, deltas = self.head(list(maps))
        scores_LNP = [self._scores(each.float()) for each in logits]
        boxes_LNP4 = [self._boxes(level, each.float()) for level, each in enumerate(deltas)]
        return [
            self._best([each[n] for each in scores_LNP], [each[n] for each in boxes_LNP4], sizes[n], scales[n])
            for n in range(len(maps[0]))
        ]

    def _scores(self, logits_NAHW: Tensor) -> Tensor:
        """What anchors are ranked by, (N, P) in the order row, column, anchor of the cell."""
        if self.rules.objectness == "pair":
            background, foreground = logits_NAHW.chunk(2, dim=1)
            logits_NAHW = torch.stack([background, foreground]).softmax(dim=0)[1]
        return logits_NAHW.permute(0, 2, 3, 1).flatten(1)

    def _boxes(self, level: int, deltas_NCHW: Tensor) -> Tensor:
        """The anchors of a map, moved: (N, P, 4)."""
        count, _, height, width = deltas_NCHW.shape
        cell_A4 = self.cell_anchors.get_buffer(str(level)).float()
        anchors_P4 = anchors.grid(cell_A4, height, width, self.strides[level], self.rules.anchors.offset)
        deltas_NP4 = deltas_NCHW.view(count, -1, 4, height, width).permute(0, 3, 4, 1, 2).reshape(count, -1, 4)
        moved = boxes.decode(anchors_P4, deltas_NP4.transpose(0, 1), self.box_rule, (1, 1, 1, 1), self.rules.clamp)
        return moved.transpose(0, 1)

    def _best(self, scores: Sequence[Tensor], moved: Sequence[Tensor], size: tuple[int, int], scale: float) -> Tensor:
        """The proposals of one picture; suppression is within a map, the final count over all maps.

        Boxes that are too small are ranked last, not taken out: how many there are, a GPU would have to be asked.
        """
        least = self.rules.min_side * (scale if self.rules.min_side_of == "stored" else 1)
        kept_boxes, kept_scores = [], []
        for scores_P, boxes_P4 in zip(scores, moved, strict=True):
            if self.rules.first == "top":
                scores_P, boxes_P4 = self._top(scores_P, boxes_P4)
            boxes_P4 = boxes.clip(boxes_P4, size, self.box_rule)
            stays_P = boxes.large(boxes_P4, least, self.rules.min_side_ties, self.box_rule)
            # A box of NaN is kept, or a network gone bad would seem to see nothing.
            stays_P |= boxes_P4.isnan().any(dim=1)
            scores_P, boxes_P4 = self._top(scores_P.masked_fill(~stays_P, -math.inf), boxes_P4)
            kept = boxes.suppress(boxes_P4, self.rules.nms, self.rules.after_nms)
            kept_boxes.append(boxes_P4[kept])
            kept_scores.append(scores_P[kept])
        joined = torch.cat(kept_scores)
        best = joined.argsort(descending=True, stable=True)[: self.rules.after_nms]
        found = torch.cat(kept_boxes)[best][~joined[best].isneginf()]
        # A picture so small that every box is too small for the rule still has one proposal: all of it.
        height, width = (side - boxes.extra(self.box_rule) for side in size)
        return found if len(found) else found.new_tensor([[0, 0, width, height]])

    def _top(self, scores_P: Tensor, boxes_P4: Tensor) -> tuple[Tensor, Tensor]:
        best = scores_P.argsort(descending=True, stable=True)[: self.rules.before_nms]
        return scores_P[best], boxes_P4[best]

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

Size = tuple[int, int]  # (height, width)


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

    def forward(self, maps: Sequence[Tensor], size: Size, scales: Sequence[float]) -> list[Tensor]:
        """The proposals of each picture, best first: (up to after_nms, 4).

        size: (height, width) that proposals are clipped to, the resized pictures' or the padded ones'; scales: by how
        much each picture was enlarged.
        """
        logits, deltas = self.head(list(maps))
        sides = [self.rules.min_side * (scale if self.rules.min_side_of == "stored" else 1) for scale in scales]
        least_N1 = torch.tensor(sides, dtype=torch.float32, device=maps[0].device)[:, None]
        ranked = [
            self._ranked(self._scores(each.float()), self._boxes(level, moves.float()), size, least_N1)
            for level, (each, moves) in enumerate(zip(logits, deltas, strict=True))
        ]
        return [self._best([(each[n], moved[n]) for each, moved in ranked], size) for n in range(len(maps[0]))]

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

    def _ranked(self, scores_NP: Tensor, boxes_NP4: Tensor, size: Size, least_N1: Tensor) -> tuple[Tensor, Tensor]:
        """Of a map's anchors in each picture the best, best first: scores and boxes inside of the picture.

        Boxes that are too small are ranked last, not taken out: how many there are, a GPU would have to be asked.
        """
        if self.rules.first == "top":
            scores_NP, boxes_NP4 = self._top(scores_NP, boxes_NP4)
        boxes_NP4 = boxes.clip(boxes_NP4, size, self.box_rule)
        stays_NP = boxes.large(boxes_NP4, least_N1, self.rules.min_side_ties, self.box_rule)
        # A box of NaN is kept, or a network gone bad would seem to see nothing.
        stays_NP |= boxes_NP4.isnan().any(dim=-1)
        return self._top(scores_NP.masked_fill(~stays_NP, -math.inf), boxes_NP4)

    def _best(self, ranked: Sequence[tuple[Tensor, Tensor]], size: Size) -> Tensor:
        """The proposals of one picture. Suppression is within a map, the final count over all maps."""
        kept_boxes, kept_scores = [], []
        for scores_P, boxes_P4 in ranked:
            kept = boxes.suppress(boxes_P4, self.rules.nms, self.rules.after_nms)
            kept_boxes.append(boxes_P4[kept])
            kept_scores.append(scores_P[kept])
        joined = torch.cat(kept_scores)
        best = joined.argsort(descending=True, stable=True)[: self.rules.after_nms]
        found = torch.cat(kept_boxes)[best][~joined[best].isneginf()]
        # A picture so small that every box is too small for the rule still has one proposal: all of it.
        height, width = (side - boxes.extra(self.box_rule) for side in size)
        return found if len(found) else found.new_tensor([[0, 0, width, height]])

    def _top(self, scores_NP: Tensor, boxes_NP4: Tensor) -> tuple[Tensor, Tensor]:
        best_NP = scores_NP.argsort(dim=1, descending=True, stable=True)[:, : self.rules.before_nms]
        return scores_NP.gather(1, best_NP), boxes_NP4.gather(1, best_NP[..., None].expand(-1, -1, 4))

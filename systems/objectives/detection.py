"""Objective `detection`: the regions found again, matched one to one (E2E-VLP, after DETR, arXiv:2005.12872)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torchvision.ops import box_convert, generalized_box_iou

from pairloom.errors import ConfigError
from pairloom.loader.batch import IGNORE, Batch, Example
from pairloom.loader.make import Make
from pairloom.loader.row import Row
from pairloom.typed import Positive, Share, check_ranges
from systems.models.encoder_decoder import EncoderDecoder, Read
from trainer.contract import Scored, Shapes


@dataclass(frozen=True, kw_only=True)
class Settings:
    """queries: how many boxes are asked for. The other numbers are DETR's: weights in matching and loss, and that of
    finding nothing. min_score: of the detector's regions that are to be found, the best of them first."""

    queries: Positive
    min_score: Share
    max_regions: Positive
    box: float = 5.0
    overlap: float = 2.0
    attribute: float = 1.0
    nothing: float = 0.1

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class Detection:
    """What each query answers. The last class is nothing."""

    logits_BQC: Tensor
    attributes_BQA: Tensor
    boxes_BQ4: Tensor  # centre and size, shares of the picture


class Head(nn.Module):
    """Queries, and what is read from what the decoder makes of them."""

    def __init__(self, settings: Settings, width: int, classes: int, attributes: int) -> None:
        super().__init__()
        self.queries = nn.Embedding(settings.queries, width)
        self.classes, self.attributes = nn.Linear(width, classes + 1), nn.Linear(width, attributes)
        self.boxes = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4), nn.Sigmoid()
        )

    def forward(self, hidden_BQH: Tensor) -> Detection:
        return Detection(self.classes(hidden_BQH), self.attributes(hidden_BQH), self.boxes(hidden_BQH))


def columns(settings: Settings) -> tuple[str, ...]:
    return ("num_regions", "boxes", "class_ids", "class_scores", "attribute_ids", "width", "height")


def head(settings: Settings, model: EncoderDecoder, shapes: Shapes) -> Head:
    if shapes.num_classes is None or shapes.num_attributes is None:
        raise ConfigError("the shards have no regions", "objective detection", "run the stage regions")
    return Head(settings, model.hidden, shapes.num_classes, shapes.num_attributes)


def prepare(example: Example, row: Row, make: Make, settings: Settings, rng: np.random.Generator) -> Example:
    """The regions to be found. All of the picture must be shown, or boxes would be elsewhere."""
    if not make.units.settings.whole:
        raise ConfigError(
            "the picture is cropped", "objective detection", "set units.pixels: fit squash, squash = size"
        )
    kept = np.flatnonzero(row.numbers("class_scores") >= settings.min_score)[: settings.max_regions]
    size = np.array([row.value("width"), row.value("height")] * 2, np.float32)
    return example.with_targets(
        boxes=(row.numbers("boxes")[kept] / size).astype(np.float32),
        box_classes=row.numbers("class_ids")[kept].astype(np.int64),
        box_attributes=row.numbers("attribute_ids")[kept].astype(np.int64),
        prefix=np.array(0, np.int64),  # the picture alone is read
    )


def loss(model: EncoderDecoder, encoded: Read, head: Head, batch: Batch, settings: Settings) -> Scored:
    asked_BQH = head.queries.weight.expand(len(batch), -1, -1)
    found: Detection = head(model.decode(encoded, asked_BQH))
    classes_BR, attributes_BR = batch.targets["box_classes"], batch.targets["box_attributes"]
    real_BR = classes_BR != IGNORE
    boxes_BR4 = box_convert(batch.targets["boxes"], "xyxy", "cxcywh")
    pairs = match(found, classes_BR, boxes_BR4, real_BR, settings)
    value = set_loss(found, classes_BR, attributes_BR, boxes_BR4, pairs, settings)
    row_M, query_M, region_M = pairs
    return Scored.of_classes(found.logits_BQC[row_M, query_M, :-1], classes_BR[row_M, region_M], value)


Pairs = tuple[Tensor, Tensor, Tensor]  # (M,) row, query and region of each match


@torch.no_grad()
def match(found: Detection, classes_BR: Tensor, boxes_BR4: Tensor, real_BR: Tensor, settings: Settings) -> Pairs:
    """The cheapest one-to-one matching of queries and regions of each row (scipy's)."""
    pairs: list[tuple[int, int, int]] = []
    for row in range(len(classes_BR)):
        regions = real_BR[row].nonzero().squeeze(1)
        cost_QR = costs(
            found.logits_BQC[row], found.boxes_BQ4[row], classes_BR[row, regions], boxes_BR4[row, regions], settings
        )
        queries, places = linear_sum_assignment(cost_QR.float().cpu().numpy())
        pairs += [(row, int(q), int(regions[p])) for q, p in zip(queries, places, strict=True)]
    table = torch.tensor(pairs, dtype=torch.int64, device=boxes_BR4.device).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2]


def costs(logits_QC: Tensor, boxes_Q4: Tensor, classes_R: Tensor, boxes_R4: Tensor, settings: Settings) -> Tensor:
    """(Q, R): less the class's probability, plus the weighted distance of the boxes, less their weighted overlap."""
    probability_QR = logits_QC.float().softmax(dim=-1)[:, classes_R]
    distance_QR = torch.cdist(boxes_Q4.float(), boxes_R4.float(), p=1)
    return settings.box * distance_QR - probability_QR - settings.overlap * _overlaps(boxes_Q4, boxes_R4)


def _overlaps(boxes_Q4: Tensor, boxes_R4: Tensor) -> Tensor:
    """(Q, R) generalised intersection over union, −1 to 1."""
    corners = [box_convert(boxes.float(), "cxcywh", "xyxy") for boxes in (boxes_Q4, boxes_R4)]
    overlap: Tensor = generalized_box_iou(*corners)
    return overlap


def set_loss(
    found: Detection, classes_BR: Tensor, attributes_BR: Tensor, boxes_BR4: Tensor, pairs: Pairs, settings: Settings
) -> Tensor:
    """Classes of all queries, and attributes and boxes of the matched ones. Returns a scalar."""
    row_M, query_M, region_M = pairs
    nothing = found.logits_BQC.shape[-1] - 1
    wanted_BQ = torch.full_like(found.logits_BQC[..., 0], nothing, dtype=torch.int64)
    wanted_BQ[row_M, query_M] = classes_BR[row_M, region_M]
    weight_C = torch.ones(nothing + 1, device=found.logits_BQC.device)
    weight_C[nothing] = settings.nothing
    value = F.cross_entropy(found.logits_BQC.float().flatten(0, 1), wanted_BQ.flatten(), weight_C)
    boxes_M4, target_M4 = found.boxes_BQ4[row_M, query_M].float(), boxes_BR4[row_M, region_M]
    count = max(len(row_M), 1)
    distance = (boxes_M4 - target_M4).abs().sum() / count
    overlap = (1 - _overlaps(boxes_M4, target_M4).diagonal()).sum() / count
    logits_MA = found.attributes_BQA[row_M, query_M].float()
    attributes = F.cross_entropy(logits_MA, attributes_BR[row_M, region_M], reduction="sum") / count
    return value + settings.box * distance + settings.overlap * overlap + settings.attribute * attributes

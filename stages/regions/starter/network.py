"""The shipped detector behind the `Network` interface, its classes joined with ImageNet's names.

Letters: N proposals, V names in the combined vocabulary, K chosen proposals, A attributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.models import EfficientNet_B0_Weights

from stages.regions.catalogue import Detector
from stages.regions.contract import Detections, Precision, pooled_grid
from stages.regions.d2 import Instances
from stages.regions.precision import refuse_low, set_tf32
from stages.regions.starter import checkpoint
from stages.regions.starter.model import C4Detector


@dataclass(frozen=True)
class Vocabulary:
    """The names that a region may get: the detector's own classes, then the ImageNet names that are not among them."""

    names: tuple[str, ...]
    num_things: int  # the detector's own classes are the first so many
    imagenet: Tensor  # for each of the 1000 ImageNet classes its index in `names`


def vocabulary(classes: tuple[str, ...]) -> Vocabulary:
    """The combined vocabulary. An ImageNet name that the detector knows too, or that comes twice, is one name."""
    imagenet = EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"]
    names = tuple(dict.fromkeys((*classes, *imagenet)))
    place = {name: i for i, name in enumerate(names)}
    return Vocabulary(names, len(classes), torch.tensor([place[name] for name in imagenet]))


class StarterNetwork:
    """A C4Detector and its vocabulary. See stages/regions/contract.py."""

    def __init__(self, model: C4Detector, spec: Detector, weights: checkpoint.Weights) -> None:
        self.model, self.spec, self.words = model, spec, vocabulary(weights.classes)
        self.classes, self.attributes = self.words.names, weights.attributes
        self.feature_width, self.sha256 = spec.feature_width, weights.sha256

    def place(self, device: str, precision: Precision) -> None:
        """Its convolutions are depthwise, which low precision does not help. So only fp32 and tf32."""
        refuse_low(self.spec.name, precision)
        set_tf32(device, precision)
        self.model.to(device)

    def prepare(self, picture: Image.Image) -> Tensor:
        """uint8 (3, H, W): unless the longer side passes `long_side`, the shorter is `short_side`."""
        scale = min(self.spec.short_side / min(picture.size), self.spec.long_side / max(picture.size))
        width, height = (max(1, round(side * scale)) for side in picture.size)
        pixels = np.array(picture.resize((width, height), Image.Resampling.BILINEAR))
        return torch.from_numpy(pixels).permute(2, 0, 1)

    def scale(self, picture_size: tuple[int, int], prepared_size: tuple[int, int]) -> tuple[float, float]:
        return picture_size[1] / prepared_size[1], picture_size[0] / prepared_size[0]

    def detect(self, images_N3HW: Tensor, picture_sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        """The heads ask one picture at a time: forty proposals fill no machine, and the picture is asked as a whole."""
        images = self.model.preprocess_image([{"image": image} for image in images_N3HW])
        maps = self.model.backbone(images.tensor)
        proposals, _ = self.model.proposal_generator(images, maps)
        answers, _ = self.model.roi_heads(images, maps, proposals)
        return [self._named(*pair) for pair in zip(answers, maps["c4"].split(1), strict=True)]

    def _named(self, answer: Instances, map_1CHW: Tensor) -> Detections:
        """One picture's proposals in words of the combined vocabulary."""
        things_NV, others_NV = combined(answer.class_probs, answer.imagenet_probs, self.words)
        sure = others_NV >= self.spec.imagenet_score
        scores_NV = things_NV + torch.where(sure, others_NV, others_NV / 4)
        best_N1 = scores_NV.argmax(dim=1, keepdim=True)
        thing_N = (things_NV >= scores_NV / 2).gather(1, best_N1)[:, 0]  # most of its score is from the own classes
        attributes_NA = torch.where(thing_N[:, None], answer.thing_attributes, answer.other_attributes)
        return Detections(
            size=answer.image_size,
            proposals_N4=answer.proposal_boxes.tensor,
            # The box head has learned the detector's own classes alone, so any other thing keeps its proposal's box.
            boxes=torch.where(thing_N[:, None], answer.pred_boxes.tensor, answer.proposal_boxes.tensor),
            scores_NC=scores_NV,
            probs_NC=things_NV + others_NV,
            features_ND=answer.features,
            attributes=lambda rows_K, classes_K: attributes_NA[rows_K],  # asked for each proposal's best class already
            grid=lambda side: pooled_grid(self.model.roi_heads.tail[:-2](self.model.roi_heads.middle(map_1CHW)), side),
        )


def combined(things_NC1: Tensor, imagenet_N1000: Tensor, words: Vocabulary) -> tuple[Tensor, Tensor]:
    """Probabilities over the combined vocabulary (N, V) by the own classes and by ImageNet's: together at most 1.

    What the detector's own classes leave (its background) is shared out as ImageNet's head says. A proposal that
    head was not asked about, all zeros here, leaves it open.
    """
    things_NV = things_NC1.new_zeros(len(things_NC1), len(words.names))
    others_NV = things_NV.clone()
    things_NV[:, : words.num_things] = things_NC1[:, :-1]
    return things_NV, others_NV.index_add_(1, words.imagenet.to(others_NV.device), things_NC1[:, -1:] * imagenet_N1000)

"""From a stored picture to its regions: decode, resize, detect, name, select.

Letters: N proposals, K kept regions, V names in the combined vocabulary, D feature width, A attributes.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torchvision.models import EfficientNet_B0_Weights

from stages.regions.catalogue import Detector
from stages.regions.d2 import Instances
from stages.regions.model import C4Detector
from stages.regions.select import RULES, Policy

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Vocabulary:
    """The names that a region may get: the detector's own classes, then the ImageNet names that are not among them."""

    names: tuple[str, ...]
    num_things: int  # the detector's own classes are the first so many
    imagenet: Tensor  # for each of the 1000 ImageNet classes its index in `names`
    attributes: tuple[str, ...]


@dataclass(frozen=True)
class Regions:
    """One picture's regions, best first; shapes and units as in schemas/regions.py."""

    boxes: Array  # (K, 4)
    class_ids: Array  # (K,)
    class_scores: Array  # (K,)
    attribute_ids: Array  # (K,)
    attribute_scores: Array  # (K,)
    features: Array  # (K, D)
    prob_ids: Array  # (K, prob_width)
    prob_values: Array  # (K, prob_width)


def vocabulary(classes: tuple[str, ...], attributes: tuple[str, ...]) -> Vocabulary:
    """The combined vocabulary; an ImageNet name that the detector knows too, or that comes twice, is one name."""
    imagenet = EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"]
    names = tuple(dict.fromkeys((*classes, *imagenet)))
    place = {name: i for i, name in enumerate(names)}
    return Vocabulary(names, len(classes), torch.tensor([place[name] for name in imagenet]), attributes)


def decode(encoded: bytes) -> Image.Image:
    """The picture as RGB: transparent parts on white, 16-bit grey scaled to 8. Raises OSError if it is damaged."""
    picture = Image.open(io.BytesIO(encoded))
    picture.load()
    if picture.mode.startswith("I"):
        return Image.fromarray((np.asarray(picture).clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(ground, layer).convert("RGB")
    return picture.convert("RGB")


def resized(picture: Image.Image, spec: Detector) -> Tensor:
    """The picture at the detector's size, uint8 (3, H, W): unless the longer passes, the shorter is `short_side`."""
    scale = min(spec.short_side / min(picture.size), spec.long_side / max(picture.size))
    width, height = (max(1, round(side * scale)) for side in picture.size)
    pixels = np.array(picture.resize((width, height), Image.Resampling.BILINEAR))
    return torch.from_numpy(pixels).permute(2, 0, 1)


def extract(picture: Image.Image, model: C4Detector, spec: Detector, words: Vocabulary, policy: Policy) -> Regions:
    """The regions of one picture; it is detected alone, so no other picture can change them."""
    image = resized(picture, spec)
    with torch.inference_mode():
        (found,) = model.inference([{"image": image}], do_postprocess=False)
        return select(found, picture.size, spec, words, policy)


def select(found: Instances, size: tuple[int, int], spec: Detector, words: Vocabulary, policy: Policy) -> Regions:
    """Name each proposal, keep the best, and give their boxes in pixels of the picture of this size (width, height)."""
    things_NV, others_NV = combined(found.class_probs, found.imagenet_probs, words)
    probs_NV = things_NV + others_NV
    scores_NV = things_NV + torch.where(others_NV < spec.imagenet_score, others_NV / 4, others_NV)
    best_N1 = scores_NV.argmax(dim=1, keepdim=True)
    thing_N = (things_NV >= scores_NV / 2).gather(1, best_N1)[:, 0]  # most of its score is from the own classes
    # The box head has learned the detector's own classes alone, so any other thing keeps its proposal's box.
    boxes_N4 = torch.where(thing_N[:, None], found.pred_boxes.tensor, found.proposal_boxes.tensor)
    attributes_NA = torch.where(thing_N[:, None], found.thing_attributes, found.other_attributes)
    kept = RULES[spec.selection](boxes_N4.cpu().numpy(), scores_NV.cpu().numpy(), policy)
    rows = torch.from_numpy(kept.rows_K).to(probs_NV.device)
    attribute_scores, attribute_ids = attributes_NA[rows].max(dim=1)
    prob_values, prob_ids = probs_NV[rows].topk(spec.prob_width, dim=1)
    return Regions(
        boxes=_in_picture(boxes_N4[rows].cpu().numpy(), found.image_size, size),
        class_ids=kept.classes_K,
        class_scores=kept.scores_K,
        attribute_ids=attribute_ids.cpu().numpy(),
        attribute_scores=attribute_scores.cpu().numpy(),
        features=found.features[rows].cpu().numpy(),
        prob_ids=prob_ids.cpu().numpy(),
        prob_values=prob_values.cpu().numpy(),
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


def _in_picture(boxes_K4: Array, seen: tuple[int, int], size: tuple[int, int]) -> Array:
    """Boxes of the resized picture (H, W) in pixels of the stored one (width, height), never outside of it."""
    scale = np.array([size[0] / seen[1], size[1] / seen[0]] * 2, np.float32)
    limits = np.array([*size, *size], np.float32)
    return np.clip(boxes_K4 * scale, 0, limits)

"""From a stored picture to its regions: decode, resize, detect, select.

Letters: N proposals, K kept regions, D feature width, A attributes.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from stages.regions.found import Found, Network
from stages.regions.select import Policy, select

Array = npt.NDArray[Any]


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


def extract(picture: Image.Image, network: Network, policy: Policy, prob_width: int) -> Regions:
    """The regions of one picture; it is detected alone, so no other picture can change them."""
    with torch.inference_mode():
        (found,) = network.detect(network.prepare(picture)[None])
        return regions_of(found, picture, network, policy, prob_width)


def regions_of(found: Found, picture: Image.Image, network: Network, policy: Policy, prob_width: int) -> Regions:
    """The selected regions, with boxes in pixels of the picture."""
    kept = select(found.boxes.cpu().numpy(), found.scores_NC.cpu().numpy(), policy)
    rows = torch.from_numpy(kept.rows_K).to(found.boxes.device)
    attributes_KA = found.attributes(rows, torch.from_numpy(kept.classes_K).to(rows.device))
    attribute_scores, attribute_ids = attributes_KA.max(dim=1)
    prob_values, prob_ids = found.probs_NC[rows].topk(prob_width, dim=1)
    scale = network.scale((picture.height, picture.width), found.size)
    return Regions(
        boxes=in_picture(found.boxes[rows].cpu().numpy(), scale, picture.size),
        class_ids=kept.classes_K,
        class_scores=kept.scores_K,
        attribute_ids=attribute_ids.cpu().numpy(),
        attribute_scores=attribute_scores.cpu().numpy(),
        features=found.features_ND[rows].cpu().numpy(),
        prob_ids=prob_ids.cpu().numpy(),
        prob_values=prob_values.cpu().numpy(),
    )


def in_picture(boxes_K4: Array, scale: tuple[float, float], size: tuple[int, int]) -> Array:
    """Boxes of the resized picture in pixels of the stored one (width, height), never outside of it."""
    inside: Array = np.clip(boxes_K4 * np.array(scale * 2, np.float32), 0, np.array(size * 2, np.float32))
    return inside

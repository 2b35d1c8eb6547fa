"""MILVLG's `detectron2` mode against its extraction script, restated around detectron2's own inference."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from stages.regions import Config, catalogue, compat, setup
from stages.regions.extract import extract_one
from stages.regions.importing import adding
from tests.stages.regions.published import checkpoints, oracle
from tests.stages.regions.published.families import FAMILIES, Family, Small, small
from tests.stages.regions.published.test_oracle import pictures, settings

D2 = [family for family in FAMILIES if family.detector.startswith("milvlg-d2-")]


@dataclass(frozen=True)
class Npz:
    """What the script writes for a picture. Regions are rows, best first, and may come twice."""

    boxes: Tensor  # (K, 4), pixels of the stored picture
    objects: Tensor  # (K,)
    scores: Tensor  # (K,)
    probs: Tensor  # (K, C)
    features: Tensor  # (K, D)
    attributes: Tensor  # (K, A)


def extract_d2features(
    picture: Image.Image, family: Family, sizes: Small, weights: checkpoints.Tensors, score: float, nms: float
) -> Npz:
    """utils/extract_d2features.py in its mode roi_feats: get_image_blob with mean 0, then model_inference."""
    compat.apply()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference_single_image
    pixels = np.array(picture)[:, :, ::-1].astype(np.float32)
    scale = sizes.short_side / min(pixels.shape[:2])
    if np.round(scale * max(pixels.shape[:2])) > sizes.long_side:
        scale = sizes.long_side / max(pixels.shape[:2])
    blob = cv2.resize(pixels, None, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    image = torch.from_numpy(blob).permute(2, 0, 1)[None] - torch.tensor(family.mean).view(1, 3, 1, 1)
    size = (image.shape[2], image.shape[3])
    maps = oracle.feature_maps(image, family, sizes, weights)
    proposals = oracle.proposals(maps, size, scale, family, sizes, weights)
    head, features = oracle.region_features(maps, proposals, family, weights)
    logits = oracle.linear(head, weights, family.names.parts["classes"])
    deltas = oracle.linear(head, weights, family.names.parts["boxes"]).double().numpy().reshape(len(proposals), -1, 4)
    moved = [[oracle.decode(box, one, family, family.box_weights) for one in row] for box, row in
             zip(proposals, deltas, strict=True)]  # fmt: skip
    boxes = torch.tensor(np.array(moved)).float().flatten(1)
    found, rows = fast_rcnn_inference_single_image(boxes, logits.softmax(dim=1), size, score, nms, 100)
    attributes = torch.from_numpy(oracle.attribute_probs(head, logits, family, weights))
    probs = logits.softmax(dim=1)[rows, :-1]
    own = (found.pred_boxes.tensor / scale, found.pred_classes, found.scores)
    return Npz(*own, probs, features[rows], attributes[rows])


@pytest.mark.parametrize(
    ("asked", "score", "nms"),
    [({}, 0.05, 0.5), ({"min_score": 0.0, "nms": 0.3}, 0.0, 0.3)],
    ids=["script", "readme-100"],
)
@pytest.mark.parametrize("family", D2, ids=lambda family: str(family.detector))
def test_a_picture_has_the_regions_that_the_script_writes(
    family: Family,
    asked: dict[str, float],
    score: float,
    nms: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.set_num_threads(1)
    monkeypatch.setenv("PAIRLOOM_DETECTORS", str(tmp_path))
    weights = checkpoints.tensors(family, small(family))
    entry = settings(family, tmp_path)
    adding.add(entry, checkpoints.write(tmp_path / "net.pth", family, weights))
    name = str(tmp_path / f"{entry.name}.yaml")
    config = Config(detector=name, feature_dtype="float32", device="cpu", **asked)  # type: ignore[arg-type]
    engine = setup(config, tmp_path).engine
    for picture in pictures():
        theirs = extract_d2features(picture, family, small(family), weights, score, nms)
        ours = extract_one(picture, engine)
        assert len(ours.boxes) == len(theirs.boxes) > 5
        assert ours.class_ids.tolist() == theirs.objects.tolist()
        assert np.allclose(ours.class_scores, theirs.scores, atol=1e-5)
        # The script's boxes end where the resized picture does. Ours also where the stored one does.
        inside = theirs.boxes.clamp(max=torch.tensor([picture.width, picture.height] * 2))
        assert np.allclose(ours.boxes, inside, atol=5e-3)
        assert np.allclose(ours.features, theirs.features, atol=1e-4 * float(theirs.features.abs().max()))
        attributes, ids = theirs.attributes.max(dim=1)
        assert ours.attribute_ids.tolist() == ids.tolist()
        assert np.allclose(ours.attribute_scores, attributes, atol=1e-5)


def test_the_catalogue_selects_as_detectron2_does() -> None:
    for family in D2:
        entry = catalogue.load(family.detector)
        policy = Config(detector=family.detector).policy()
        assert (entry.selection, policy.min_score, policy.nms) == ("detectron2", 0.05, 0.5)
        assert (policy.min_regions, policy.max_regions) == (0, 100)

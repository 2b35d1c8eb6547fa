"""vqa-maskrcnn-benchmark clips proposals to the padded picture: what that means for features and for what is stored."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stages.regions import Config, setup
from stages.regions.extract import Engine, extract_one
from stages.regions.importing import adding
from tests.stages.regions.published import checkpoints, oracle
from tests.stages.regions.published.families import FAMILIES, Family, small
from tests.stages.regions.published.test_oracle import detect, pictures, settings

VMB = [family for family in FAMILIES if family.detector.startswith("vmb-")]


@pytest.fixture(params=VMB, ids=lambda family: str(family.detector))
def family(request: pytest.FixtureRequest) -> Family:
    torch.set_num_threads(1)
    found: Family = request.param
    return found


@pytest.fixture
def engine(family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setenv("PAIRLOOM_DETECTORS", str(tmp_path))
    entry = settings(family, tmp_path)
    adding.add(entry, checkpoints.write(tmp_path / "net.pth", family, checkpoints.tensors(family, small(family))))
    config = Config(
        detector=str(tmp_path / f"{entry.name}.yaml"), feature_dtype="float32", proposals=True, device="cpu"
    )
    return setup(config, tmp_path).engine


def resized_sides(picture: Image.Image, family: Family) -> tuple[int, int]:
    """(width, height) by OpenCV's one factor: 120 and 200 are the sides of the small networks."""
    sizes = small(family)
    factor = sizes.short_side / min(picture.size)
    if round(factor * max(picture.size)) > sizes.long_side:
        factor = sizes.long_side / max(picture.size)
    width, height = (round(side * factor) for side in picture.size)
    return width, height


def test_proposals_end_where_the_batch_of_the_fork_ends(family: Family, engine: Engine) -> None:
    beyond = 0
    for picture in pictures():
        width, height = resized_sides(picture, family)
        # clip_to_image: x to [0, width − 1], y to [0, height − 1], with sides rounded up to a multiple of 32.
        limits = torch.tensor([math.ceil(side / 32) * 32 - 1 for side in (width, height)])
        found = detect(engine.network, picture)  # type: ignore[arg-type]  # a published one, which the engine knows not
        assert (found.proposals_N4[:, 2:] <= limits).all()
        beyond += int((found.proposals_N4[:, 2:] > torch.tensor([width - 1, height - 1])).any(dim=1).sum())
    assert beyond > 5  # the padding is seen


def test_stored_boxes_lie_in_the_picture_and_selection_saw_them_whole(family: Family, engine: Engine) -> None:
    for picture in pictures():
        seen = oracle.see(picture, family, small(family), checkpoints.tensors(family, small(family)))
        whole = seen.boxes * np.array([*seen.scale, *seen.scale])
        found = extract_one(picture, engine)
        rows = vilbert_rows(whole, seen.probs)
        assert len(found.boxes) == min(100, len(whole))
        inside = whole[rows].clip(0, [picture.width, picture.height] * 2)
        assert np.allclose(found.boxes, inside, atol=5e-3)
        assert found.proposals is not None
        assert np.allclose(found.proposals, inside, atol=5e-3)
        assert np.allclose(found.features, seen.features[rows], atol=1e-4 * np.abs(seen.features).max())


def vilbert_rows(boxes: np.ndarray, scores: np.ndarray) -> list[int]:
    """extract_features.py of vilbert-multi-task: NMS 0.5 in each class, the best 100 by what survived."""
    best = np.zeros(len(boxes))
    for each in scores.T:
        kept: list[int] = []
        for row in np.argsort(-each, kind="stable"):
            if all(oracle.overlap(boxes[row], boxes[better], 1) <= 0.5 for better in kept):
                kept.append(int(row))
                best[row] = max(best[row], each[row])
    return [int(row) for row in np.argsort(-best, kind="stable")[:100]]

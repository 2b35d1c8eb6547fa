"""Every entry of the catalogue against the oracle: import a published file, detect, compare everything it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from stages.regions import Config, catalogue, resources
from stages.regions.contract import Detections
from stages.regions.importing import adding
from stages.regions.published import store
from stages.regions.published.opening import PublishedNetwork, open_published
from stages.regions.published.settings import FasterRCNN
from tests.devices import DEVICES
from tests.stages.regions.published import checkpoints, oracle
from tests.stages.regions.published.families import FAMILIES, Family, small

SIZES = ((150, 100), (64, 96), (330, 60))  # the last is so long that its longer side decides


def pictures() -> list[Image.Image]:
    """Smooth noise, so that resizing rules differ by little and colours by much."""
    random = np.random.default_rng(5)
    coarse = [random.integers(0, 256, (6, 7, 3), np.uint8) for _ in SIZES]
    return [
        Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
        for pixels, size in zip(coarse, SIZES, strict=True)
    ]


def settings(family: Family, folder: Path) -> FasterRCNN:
    file = folder / f"small-{family.detector}.yaml"
    file.write_text(yaml.safe_dump(small(family).overrides(family)), encoding="utf-8")
    entry = catalogue.load(str(file))
    assert isinstance(entry, FasterRCNN)
    return entry


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("detectors")


@pytest.fixture(params=FAMILIES, ids=lambda family: str(family.detector), scope="module")
def family(request: pytest.FixtureRequest) -> Family:
    torch.set_num_threads(1)
    found: Family = request.param
    return found


@pytest.fixture(scope="module")
def weights(family: Family) -> checkpoints.Tensors:
    return checkpoints.tensors(family, small(family))


@pytest.fixture(scope="module", params=DEVICES)
def network(
    request: pytest.FixtureRequest, family: Family, weights: checkpoints.Tensors, folder: Path
) -> PublishedNetwork:
    """The detector as a user gets it: from the published file by `detector add`."""
    path = checkpoints.write(folder / f"{family.detector}.{family.container}", family, weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAIRLOOM_DETECTORS", str(folder))
        entry = settings(family, folder)
        adding.add(entry, path)
        opened = open_published(entry, store.file(entry.name))
    opened.place(request.param, "fp32")  # as the stage does. Only then are its ways of fewer multiplications taken
    return opened


def detect(network: PublishedNetwork, picture: Image.Image) -> Detections:
    device = next(network.model.parameters()).device
    (found,) = network.detect(network.prepare(picture)[None].to(device), [(picture.height, picture.width)])
    on_host: dict[str, Any] = {name: part.cpu() for name, part in vars(found).items() if isinstance(part, torch.Tensor)}
    return replace(
        found,
        **on_host,
        attributes=lambda rows, classes: found.attributes(rows.to(device), classes.to(device)).cpu(),
        grid=None if found.grid is None else lambda side: found.grid(side).cpu(),  # type: ignore[misc]
    )


@pytest.mark.parametrize("number", range(len(SIZES)))
def test_a_detector_says_what_the_original_code_says(
    network: PublishedNetwork, family: Family, weights: checkpoints.Tensors, number: int
) -> None:
    picture = pictures()[number]
    seen, found = oracle.see(picture, family, small(family), weights), detect(network, picture)
    assert found.size == seen.size
    assert network.scale((picture.height, picture.width), found.size) == pytest.approx(seen.scale)
    assert len(found.proposals_N4) == len(seen.proposals) > 5
    assert np.allclose(found.proposals_N4, seen.proposals, atol=2e-3)  # pixels, equal boxes in equal order
    assert np.allclose(found.boxes, seen.boxes, atol=2e-3)
    assert np.array_equal(found.probs_NC.argmax(dim=1), seen.probs.argmax(axis=1))
    assert np.allclose(found.probs_NC, seen.probs, atol=1e-5)
    assert np.allclose(found.scores_NC, seen.probs, atol=1e-5)
    largest = np.abs(seen.features).max()
    assert np.abs(found.features_ND.numpy() - seen.features).max() <= 1e-4 * largest
    rows = torch.arange(len(seen.proposals))
    attributes = found.attributes(rows, found.scores_NC.argmax(dim=1))
    assert np.allclose(attributes, seen.attributes, atol=1e-5)


def test_a_grid_of_one_cell_is_the_mean_of_the_last_stages_map(
    network: PublishedNetwork, family: Family, weights: checkpoints.Tensors
) -> None:
    found = detect(network, pictures()[1])
    if family.pyramid:
        assert found.grid is None
        return
    assert found.grid is not None
    image, _ = oracle.resized(pictures()[1], family, small(family))
    (whole,) = oracle.feature_maps(image, family, small(family), weights)
    wanted_D = oracle.last_stage(whole, family, weights).mean(dim=(0, 2, 3))
    assert torch.allclose(found.grid(1)[0], wanted_D, atol=1e-4 * float(wanted_D.abs().max()))


@pytest.mark.parametrize("size", [(1, 1), (3000, 2), (1, 700), (17, 16)])
def test_a_picture_of_any_size_has_finite_regions(
    network: PublishedNetwork, family: Family, size: tuple[int, int]
) -> None:
    found = detect(network, Image.new("RGB", size, "teal"))
    assert len(found.boxes) >= 1
    assert all(torch.isfinite(each).all() for each in (found.boxes, found.probs_NC, found.features_ND))
    height, width = oracle.padded(found.size) if family.clip_padded else found.size
    assert (found.proposals_N4 >= 0).all()
    assert (found.proposals_N4 <= torch.tensor([width, height, width, height])).all()


def test_every_detector_of_the_catalogue_can_be_set(tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    weights.touch()
    for name in catalogue.names():
        config = Config(detector=name, checkpoint=str(weights))
        assert config.policy().max_regions >= 36
        assert resources(config)[0].name == f"{name}.yaml"


def test_the_oracles_cover_the_catalogue() -> None:
    assert {family.detector for family in FAMILIES} | {"starter"} == set(catalogue.names())

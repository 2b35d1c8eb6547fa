"""Published networks through the engine: a batch says what single pictures say, and narrow numbers say nearly that."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from stages.regions.extract import Engine, extract
from stages.regions.importing import adding
from stages.regions.published import store
from stages.regions.published.opening import PublishedNetwork, open_published
from stages.regions.select import POLICIES
from stages.regions.stored import Storage, StoredRegions
from tests.stages.regions.pictures import png
from tests.stages.regions.published import checkpoints
from tests.stages.regions.published.families import FAMILIES, small
from tests.stages.regions.published.test_oracle import settings

# One with RoIPool and a dilated res5, one with RoIAlign and a strided one, one with a pyramid and two hidden layers.
NAMES = ("butd-r101", "vinvl-x152c4", "vmb-x101")


@pytest.fixture(params=NAMES, scope="module")
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PublishedNetwork:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("detectors")
    family = next(family for family in FAMILIES if family.detector == request.param)
    weights = checkpoints.tensors(family, small(family))
    path = checkpoints.write(folder / f"{family.detector}.{family.container}", family, weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAIRLOOM_DETECTORS", str(folder))
        entry = settings(family, folder)
        adding.add(entry, path)
        opened = open_published(entry, store.file(entry.name))
    opened.place("cpu", "fp32")
    return opened


@pytest.fixture(scope="module")
def bodies() -> list[bytes]:
    """Five pictures of two sizes, mixed."""
    random = np.random.default_rng(7)
    sizes = [(96, 64), (64, 96), (96, 64), (96, 64), (64, 96)]
    return [
        png(Image.fromarray(random.integers(0, 256, (5, 5, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC))
        for size in sizes
    ]


def run(network: PublishedNetwork, bodies: list[bytes], batch: int) -> list[StoredRegions]:
    engine = Engine(network, POLICIES["vmb-100"], Storage(4, "<f4"), batch=batch)
    found = extract([lambda body=body: body for body in bodies], engine)  # type: ignore[misc]  # a lambda's default
    assert all(isinstance(one, StoredRegions) for one in found)
    return [one for one in found if isinstance(one, StoredRegions)]


def test_a_batch_says_what_single_pictures_say_also_when_regions_are_cut_in_parts(
    network: PublishedNetwork, bodies: list[bytes]
) -> None:
    single = run(network, bodies, batch=1)
    network.model.regions_at_once = 7  # less than one picture's, and no divisor of it
    for one, other in zip(single, run(network, bodies, batch=3), strict=True):
        assert one.class_ids.tolist() == other.class_ids.tolist()
        assert np.allclose(one.boxes, other.boxes, atol=1e-3)
        assert np.abs(one.features - other.features).max() <= 1e-4 * np.abs(one.features).max()


def test_a_neighbour_changes_nothing(network: PublishedNetwork, bodies: list[bytes]) -> None:
    """The field's ports padded pictures of other sizes to one, and features changed with their company."""
    alone = run(network, bodies[:1], batch=1)[0]
    among = run(network, bodies, batch=5)[0]
    assert np.allclose(alone.boxes, among.boxes, atol=1e-3)
    assert np.abs(alone.features - among.features).max() <= 1e-4 * np.abs(alone.features).max()


def test_bfloat16_moves_features_little_and_boxes_are_not_rounded_to_it(
    network: PublishedNetwork, bodies: list[bytes]
) -> None:
    image = network.prepare(Image.new("RGB", (96, 64), "teal"))[None]
    (wide,) = network.detect(image, [(64, 96)])
    network.model.pool.once = False  # all cells in a row, as the narrow way has them
    pooled = network.model.pool(network.model.maps(image), torch.tensor([[0.0, 3.3, 4.1, 60.7, 41.9]]))
    network.place("cpu", "bf16")
    narrow_maps = network.model.maps(image)
    narrow = network.model.pool(narrow_maps, torch.tensor([[0.0, 3.3, 4.1, 60.7, 41.9]]))
    (found,) = network.detect(image, [(64, 96)])
    network.place("cpu", "fp32")
    assert narrow.dtype == torch.bfloat16
    assert torch.nn.functional.cosine_similarity(pooled.flatten(), narrow.float().flatten(), dim=0) > 0.99
    assert found.boxes.dtype == found.scores_NC.dtype == found.features_ND.dtype == torch.float32
    assert (found.proposals_N4 != found.proposals_N4.bfloat16().float()).any()
    assert len(wide.proposals_N4) > 5

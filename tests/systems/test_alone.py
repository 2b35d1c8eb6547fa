"""A pair is encoded the same alone as in any batch: padding of words, regions and pictures changes nothing."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from pairloom.loader.batch import Batch
from tests.pairloom.loader.loading import write_folder
from tests.systems.test_pixels import batch_of, tiny
from tests.systems.test_systems import opened

SHAPED = ("pixelbert", "soho", "e2e_vlp", "simvlm", "vilt")  # those that may read pictures of any shape
REGIONS = ("interbert", "lxmert", "oscar", "unimo", "uniter", "vilbert", "villa", "vinvl")
CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}
SIDES = st.sampled_from([32, 48, 64, 80, 96])


def together(pictures: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Pictures of several shapes filled up at the right and below, and the mask of what is theirs."""
    down, across = (max(picture.shape[axis] for picture in pictures) for axis in (1, 2))
    pixels, mask = (
        torch.zeros(len(pictures), 3, down, across),
        torch.zeros(len(pictures), down, across, dtype=torch.bool),
    )
    for row, picture in enumerate(pictures):
        pixels[row, :, : picture.shape[1], : picture.shape[2]] = picture
        mask[row, : picture.shape[1], : picture.shape[2]] = True
    return pixels, mask


@pytest.fixture(scope="module", params=SHAPED)
def model(request: pytest.FixtureRequest) -> Any:
    return tiny(request.param).model


@settings(deadline=None, max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sides=st.lists(st.tuples(SIDES, SIDES), min_size=2, max_size=4), seed=st.integers(0, 99))
def test_a_picture_is_encoded_alone_as_beside_others(model: Any, sides: list[tuple[int, int]], seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    pictures = [torch.randn(3, down, across, generator=random) for down, across in sides]
    ids = torch.tensor([[2, 7, 8, 9, 3]]).expand(len(pictures), -1)
    batch = batch_of(ids)
    batch.pixels_B3SS, batch.pixel_mask_BSS = together(pictures)
    with torch.no_grad():
        found = model(batch)
        for row, picture in enumerate(pictures):
            single = batch_of(ids[:1])
            single.pixels_B3SS = picture[None]
            alone = model(single)
            torch.testing.assert_close(found.pooled_BH[row], alone.pooled_BH[0], **CLOSE)
            torch.testing.assert_close(found.words_BTH[row], alone.words_BTH[0], **CLOSE)
            assert int(found.units_BU[row].sum()) == int(alone.units_BU.sum())


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("shards"), (9, 8))


def trimmed(batch: Batch, row: int) -> Batch:
    """One row without the padding that it has beside others."""
    one = batch.take(torch.tensor([row]))
    words, regions = one.words, one.regions
    assert regions is not None
    return replace(
        one,
        words=columns(words, words.attention_mask_BT[0].nonzero().squeeze(1)),
        regions=columns(regions, regions.mask_BR[0].nonzero().squeeze(1)),
    )


def columns(part: Any, kept: Tensor) -> Any:
    parts = {field.name: getattr(part, field.name) for field in fields(part)}
    return replace(part, **{name: value[:, kept] for name, value in parts.items() if value is not None})


@pytest.mark.parametrize("name", REGIONS)
def test_regions_and_words_are_encoded_alone_as_beside_others(name: str, shards: Path) -> None:
    learner, loader = opened(name, shards)
    learner.eval()
    batch = next(iter(loader))
    assert batch.regions is not None
    nothing = torch.zeros_like(batch.regions.masked_BR)  # a hidden region may show one of another row, as published
    batch = replace(batch, regions=replace(batch.regions, masked_BR=nothing, shown_BR=None), causal=False)
    assert not batch.regions.mask_BR.all()  # type: ignore[union-attr]
    with torch.no_grad():
        found = learner.model(batch)
        for row in range(len(batch)):
            alone = learner.model(trimmed(batch, row))
            torch.testing.assert_close(found.pooled_BH[row], alone.pooled_BH[0], **CLOSE)
            seen = batch.words.attention_mask_BT[row]
            torch.testing.assert_close(found.words_BTH[row][seen], alone.words_BTH[0], **CLOSE)
            seen = batch.regions.mask_BR[row]  # type: ignore[union-attr]
            torch.testing.assert_close(found.units_BUH[row][seen], alone.units_BUH[0], **CLOSE)

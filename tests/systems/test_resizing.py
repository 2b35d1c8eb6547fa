"""Pictures that are resized on the device: the same as Pillow's, by the same draws. Tested on a CPU."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pairloom.errors import ConfigError
from pairloom.loader import Loader, Options
from pairloom.loader.batch import Batch
from pairloom.loader.pictures import Finish, Picture, PictureBatch, Shown, collate_pictures
from systems import recipes
from systems.units import pixels as units
from tests.pairloom.loader.loading import recipe, tokenizer, write_folder

CPU = torch.device("cpu")
ZERO, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("shards"))


def smooth(width: int, height: int, seed: int) -> Image.Image:
    """Of middle greys, so that no kernel leaves 0 to 255: the order of the two passes does not show."""
    small = np.random.default_rng(seed).integers(64, 192, (7, 5, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR)


FITS = {
    "crop": {"size": 48, "min_side": 0.5, "flip": True},
    "squash": {"size": 40, "squash": 56, "fit": "squash"},
    "shorter": {"size": 64, "longest": 106, "fit": "shorter", "multiple": 16, "flip": True},
}


@settings(deadline=None, max_examples=60)
@given(
    fit=st.sampled_from(sorted(FITS)), width=st.integers(9, 700), height=st.integers(9, 700), seed=st.integers(0, 99),
    drawn=st.booleans(),
)  # fmt: skip
def test_the_device_shows_what_pillow_shows(fit: str, width: int, height: int, seed: int, drawn: bool) -> None:
    setting = units.Settings(**FITS[fit], mean=ZERO, std=ONE)  # type: ignore[arg-type]
    picture = smooth(width, height, seed)
    here, there = (np.random.default_rng(seed) if drawn else None for _ in range(2))
    wanted = np.asarray(units.prepared(picture, setting, here).values_3SS)
    found, mask = collate_pictures([units.unresized(picture, setting, there)]).resized()
    assert mask is None
    assert found.shape == (1, *wanted.shape)
    assert np.abs(found[0].numpy() - wanted).max() <= 2.01 / 255  # values are rounded between the passes
    if drawn:
        assert here is not None
        assert there is not None
        assert here.random() == there.random()  # as much was drawn


@settings(deadline=None, max_examples=20)
@given(low=st.floats(0, 40), size=st.floats(1, 60), side=st.integers(1, 80), seed=st.integers(0, 9))
def test_any_part_is_resized_as_by_pillows_passes_one_after_the_other(
    low: float, size: float, side: int, seed: int
) -> None:
    """Enlarged too, cut between pixels, and of noise, where the order of the passes shows."""
    values = np.random.default_rng(seed).integers(0, 256, (100, 100, 3), np.uint8)
    box = (low, low / 2, low + size, low / 2 + size / 2)
    across = Image.fromarray(values).resize((side, 100), Image.Resampling.BICUBIC, box=(box[0], 0, box[2], 100))
    wanted = across.resize((side, side), Image.Resampling.BICUBIC, box=(0, box[1], side, box[3]))
    shown, finish = Shown((100, 100), box, (side, side)), Finish(ZERO, ONE)
    found, _ = collate_pictures([Picture(values, shown, finish)]).resized()
    assert np.abs(found[0].numpy() * 255 - np.asarray(wanted, np.float32).transpose(2, 0, 1)).max() <= 1.01


def test_randaugment_makes_of_a_picture_on_the_device_what_it_makes_of_pillows() -> None:
    setting = units.Settings(size=64, randaugment=(2, 9), flip=True, mean=ZERO, std=ONE)
    apart = []
    for seed in range(40):
        picture = smooth(90, 70, seed)
        wanted = np.asarray(units.prepared(picture, setting, np.random.default_rng(seed)).values_3SS)
        before = torch.random.get_rng_state()
        found, _ = collate_pictures([units.unresized(picture, setting, np.random.default_rng(seed))]).resized()
        assert (torch.random.get_rng_state() == before).all()
        apart.append(np.abs(found[0].numpy() - wanted).mean())
    other = np.asarray(units.prepared(picture, setting, np.random.default_rng(7)).values_3SS)
    assert np.median(apart) < 0.005
    assert max(apart) < 0.1 < np.abs(found[0].numpy() - other).mean()  # other draws give another picture


def loaded(folder: Path, name: str, resize: Any, **options: Any) -> list[Batch]:
    loader = Loader(
        folder, recipe(name), tokenizer(name), seed=3, batch_size=7,
        options=Options(resize=resize, **options),
    )  # fmt: skip
    try:
        return [batch.to(CPU) for batch in islice(loader, 4)]
    finally:
        loader.close()


@pytest.mark.parametrize("name", ["clip", "align", "vilt", "pixelbert", "soho", "simvlm"])
def test_batches_are_those_of_the_loader(name: str, folder: Path) -> None:
    """Words, masks and negatives to the bit. Pixels, but for RandAugment's, to two grey levels."""
    setting = recipe(name).units.settings
    far = 2.01 / 255 / min(setting.std)
    for here, there in zip(loaded(folder, name, "loader"), loaded(folder, name, "device"), strict=True):
        assert torch.equal(here.words.input_ids_BT, there.words.input_ids_BT)
        assert torch.equal(here.words.labels_BT, there.words.labels_BT)
        assert here.pixels_B3SS is not None
        assert there.pixels_B3SS is not None
        apart = (here.pixels_B3SS - there.pixels_B3SS).abs()
        assert apart.mean() < 0.2 if setting.randaugment[0] else apart.max() <= far
        assert (here.pixel_mask_BSS is None) == (there.pixel_mask_BSS is None)
        if here.pixel_mask_BSS is not None and there.pixel_mask_BSS is not None:
            assert torch.equal(here.pixel_mask_BSS, there.pixel_mask_BSS)


def test_a_batch_carries_pictures_until_it_is_moved(folder: Path) -> None:
    loader = Loader(folder, recipe("clip"), tokenizer("clip"), batch_size=5, options=Options(resize="device"))
    batch = next(iter(loader))
    assert batch.pixels_B3SS is None
    assert isinstance(batch.pictures, PictureBatch)
    assert len(batch.pictures.shown) == 5
    assert batch.pictures.values_N.dtype == torch.uint8
    assert batch.to(CPU).pictures is None


@pytest.mark.parametrize(("name", "said"), [("uniter", "no pictures"), ("vit", "colours"), ("mlim", "reconstruction")])
def test_a_recipe_that_cannot_have_it_is_refused(name: str, said: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        Loader(folder, recipe(name), tokenizer(name), batch_size=5, options=Options(resize="device"))


def test_reading_pixels_is_said_by_each_objective_that_does() -> None:
    """The names in their sources, so that no objective can forget it."""
    for path in (Path(recipes.__file__).parent.parent / "objectives").glob("*.py"):
        source = path.read_text("utf-8")
        assert ("isinstance(example.units, Pixels)" in source) == ("\nREADS_PIXELS = True" in source), path.name

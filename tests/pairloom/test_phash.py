"""The perceptual hash against the ImageHash package."""

from __future__ import annotations

import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers
from PIL import Image
from scipy.fft import dctn

from pairloom.phash import phash
from tests.stages.download.hostile import scene


@given(width=integers(1, 300), height=integers(1, 300), seed=integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=None)
def test_it_is_bit_for_bit_that_of_imagehash(width: int, height: int, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    for image in (Image.fromarray(noise), Image.fromarray(scene(width, height, seed)).convert("L")):
        different = phash(image) ^ int(str(imagehash.phash(image)), 16)
        assert different & ~undecided(image) == 0


def undecided(image: Image.Image) -> int:
    """The bits whose frequency equals the median but for floating-point noise (very narrow pictures have such)."""
    grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS), dtype=float)
    low = dctn(grey, type=2)[:8, :8].ravel()
    return int.from_bytes(np.packbits(np.abs(low - np.median(low)) < 1e-3).tobytes(), "big")


def test_no_bit_of_an_ordinary_picture_is_undecided() -> None:
    for seed in range(20):
        image = Image.fromarray(scene(64, 48, seed))
        assert undecided(image) == 0
        assert phash(image) == int(str(imagehash.phash(image)), 16)


@pytest.mark.parametrize("grey", [0, 1, 127, 255])
def test_a_flat_picture_has_one_bit_at_most(grey: int) -> None:
    assert phash(Image.new("L", (50, 40), grey)) == (0 if grey == 0 else 1 << 63)


def test_a_little_smaller_or_brighter_is_near_and_another_picture_is_far() -> None:
    image = Image.fromarray(scene(300, 200, 1))
    smaller, brighter = image.resize((150, 100)), image.point(lambda value: value * 0.9 + 20)
    other = Image.fromarray(scene(300, 200, 2))
    assert (phash(image) ^ phash(smaller)).bit_count() <= 4
    assert (phash(image) ^ phash(brighter)).bit_count() <= 4
    assert (phash(image) ^ phash(other)).bit_count() > 16

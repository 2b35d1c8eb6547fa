"""How large a stored picture is, and that scaling keeps its content."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import booleans, integers, sampled_from
from PIL import Image

from stages.download.pictures import LEAST_SIDE, Limits, Resize, strictly
from tests.stages.download.hostile import encoded, scene
from tests.stages.download.picture_checks import assert_close, pixels, refusal, stored


@given(width=integers(1, 900), height=integers(1, 900))
@settings(max_examples=40, deadline=None)
def test_the_longer_side_is_bounded_and_nothing_is_enlarged(width: int, height: int) -> None:
    picture = stored(encoded(Image.new("RGB", (width, height), "teal"), "PNG"))
    assert (picture.original_width, picture.original_height) == (width, height)
    scale = min(1, 256 / max(width, height))
    assert picture.width == max(1, round(width * scale))
    assert picture.height == max(1, round(height * scale))
    assert max(picture.width, picture.height) <= 256


def test_a_large_picture_is_scaled_with_its_content() -> None:
    large = scene(640, 480)
    picture = stored(encoded(Image.fromarray(large), "PNG"))
    wanted = Image.fromarray(large).resize((256, 192), Image.Resampling.BICUBIC)
    assert_close(pixels(picture), np.asarray(wanted))


# What a side of a 640 × 360 picture becomes for max_side 240, by hand: 240/640 and 240/360 of each side, and
# 240/√(640 · 360) = 0.5 of each.
SIZES = {"none": (640, 360), "longest": (240, 135), "shortest": (427, 240), "area": (320, 180)}


@pytest.mark.parametrize("resize", SIZES)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_max_side_is_of_the_side_or_area_that_resize_names(resize: Resize, kind: str) -> None:
    picture = stored(encoded(Image.fromarray(scene(640, 360)), kind), Limits(1_000_000, 240, 90, resize=resize))
    assert (picture.width, picture.height) == SIZES[resize]
    assert pixels(picture).shape[:2] == SIZES[resize][::-1]
    assert (picture.original_width, picture.original_height) == (640, 360)


@pytest.mark.parametrize("resize", ["longest", "shortest", "area"])
def test_a_smaller_picture_is_enlarged_only_if_asked(resize: Resize) -> None:
    body = encoded(Image.fromarray(scene(60, 60)), "JPEG")
    assert stored(body, Limits(1_000_000, 240, 90, resize=resize)).image == body
    large = stored(body, Limits(1_000_000, 240, 95, resize=resize, upscale=True))
    assert (large.width, large.height, large.original_width, large.format) == (240, 240, 60, "jpeg")
    wanted = Image.open(BytesIO(body)).resize((240, 240), Image.Resampling.BICUBIC)
    assert_close(pixels(large), np.asarray(wanted))


def test_a_picture_whose_scaled_form_would_be_too_large_is_refused() -> None:
    narrow = encoded(Image.new("RGB", (3000, 10)), "PNG")
    assert refusal(narrow, Limits(1_000_000, 300, 90, resize="shortest", upscale=True)) == "pixel-limit"


def test_a_picture_is_scaled_upright_by_its_shorter_side() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    body = encoded(Image.fromarray(scene(640, 360)), "JPEG", exif=exif)
    picture = stored(body, Limits(1_000_000, 240, 90, resize="shortest"))
    assert (picture.width, picture.height, picture.original_width, picture.original_height) == (240, 427, 360, 640)


@pytest.mark.parametrize("side", [90, 160, 256, 400, 630])
def test_a_jpeg_decoded_at_reduced_size_looks_as_if_it_were_decoded_whole(side: int) -> None:
    body = encoded(Image.fromarray(detailed(1280, 960)), "JPEG", quality=90)
    picture = stored(body, Limits(2_000_000, side, 95))
    whole = Image.open(BytesIO(body)).resize((picture.width, picture.height), Image.Resampling.BICUBIC)
    error = pixels(picture) - np.asarray(whole).astype(int)
    assert 10 * np.log10(255**2 / np.square(error).mean()) > 33, "peak signal-to-noise ratio, dB"


def detailed(width: int, height: int) -> np.ndarray:
    """A scene with edges and fine texture, as photographs have."""
    rng = np.random.default_rng(3)
    smooth = scene(width, height).astype(int)
    blocks = rng.integers(-40, 40, (height // 16, width // 16)).repeat(16, axis=0).repeat(16, axis=1)
    return np.clip(smooth + (blocks + rng.normal(0, 6, blocks.shape))[..., None], 0, 255).astype(np.uint8)


@settings(deadline=None, max_examples=150)
@given(
    width=integers(1, 90), height=integers(1, 90), side=integers(1, 100), seed=integers(0, 99),
    kind=sampled_from(("RGB", "L", "CMYK")), subsampling=integers(0, 2), progressive=booleans(), blocks=integers(0, 3),
)  # fmt: skip
def test_the_strict_decoder_gives_the_pixels_of_pillow_at_every_scale(
    width: int, height: int, side: int, seed: int, kind: str, subsampling: int, progressive: bool, blocks: int
) -> None:
    bands = {"RGB": (3,), "L": (), "CMYK": (4,)}[kind]
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, *bands), np.uint8)
    options = {"progressive": progressive, "restart_marker_blocks": blocks}
    options |= {} if kind == "CMYK" else {"subsampling": subsampling}
    body = encoded(Image.fromarray(noise, kind), "JPEG", quality=80, **options)
    opened, by_pillow = (Image.open(BytesIO(body)) for _ in range(2))
    for each in (opened, by_pillow):
        if max(width, height) > side:
            each.draft(None, Limits(10**6, side, 90).size(width, height))
    found = strictly(opened, body)
    assert (found is None) == (kind == "CMYK" or max(opened.size) < LEAST_SIDE)
    if found is not None:
        assert found.mode == by_pillow.mode
        assert np.array_equal(np.asarray(found), np.asarray(by_pillow))


def test_less_than_the_whole_jpeg_is_decoded_where_the_target_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    resize = Image.Image.resize

    def noted(self: Image.Image, size: tuple[int, int], resample: int | None = None) -> Image.Image:
        sizes.append(self.size)
        return resize(self, size, resample)

    body = encoded(Image.fromarray(scene(1280, 960)), "JPEG")
    monkeypatch.setattr(Image.Image, "resize", noted)
    stored(body, Limits(2_000_000, 150, 90))
    assert sizes[0] == (160, 120), "an eighth, the smallest that is no smaller than the target"

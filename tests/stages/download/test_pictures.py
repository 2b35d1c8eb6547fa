"""Every kind and mode of picture, against what numpy or Pillow's own parts say it should look like."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers
from PIL import Image, ImageCms, ImageOps

from stages.download.failure import Failure
from stages.download.kinds import sniff
from stages.download.pictures import Limits, normalise
from tests.stages.download.bombs import BOMBS, png
from tests.stages.download.hostile import encoded, jpeg
from tests.stages.download.picture_checks import CLOSE, GREY, LIMITS, RGB, SCENE, assert_close, pixels, refusal, stored


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("image", [RGB, GREY], ids=["RGB", "L"])
def test_bytes_that_need_no_change_are_kept_untouched(kind: str, image: Image.Image) -> None:
    body = encoded(image, kind)
    picture = stored(body)
    assert picture.image == body
    assert picture.format == kind.lower()
    assert (picture.width, picture.height, picture.original_width, picture.original_height) == (80, 60, 80, 60)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "AVIF"])
def test_other_kinds_are_stored_as_jpeg(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "AVIF" else {}
    picture = stored(encoded(RGB, kind, **options))
    assert picture.format == "jpeg"
    assert_close(pixels(picture), SCENE, 60 if kind == "GIF" else 2 * CLOSE)  # a GIF has 256 colours


# What EXIF orientation means, written as numpy: how the stored pixels become the upright ones (EXIF 2.32, 4.6.4 A).
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", TURNS)
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {} if kind in ("PNG", "TIFF") else {"quality": 97}
    body = encoded(RGB, kind, exif=exif, **options)
    upright = TURNS[orientation](SCENE)
    picture = stored(body)
    assert_close(pixels(picture), upright, 2 * CLOSE)
    assert (picture.original_height, picture.original_width) == upright.shape[:2]
    assert (picture.image == body) == (orientation == 1 and kind in ("JPEG", "PNG", "WEBP"))
    assert_close(pixels(picture), np.asarray(ImageOps.exif_transpose(Image.open(BytesIO(body)))), CLOSE)


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_impossible_orientation_changes_nothing(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    body = encoded(RGB, "JPEG", exif=exif)
    assert stored(body).image == body


def test_broken_exif_is_no_reason_to_lose_a_picture() -> None:
    body = encoded(RGB, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\x01" * 50)
    assert stored(body).image == body


@pytest.mark.parametrize(("kind", "alpha_kind"), [("PNG", "ramp"), ("WEBP", "ramp"), ("PNG", "solid")])
def test_alpha_lies_over_white(kind: str, alpha_kind: str) -> None:
    alpha = np.broadcast_to(np.linspace(0, 255, 80).astype(np.uint8), (60, 80)) if alpha_kind == "ramp" else 255
    rgba = np.dstack([SCENE, np.full((60, 80), 255, np.uint8) * 0 + alpha]).astype(np.uint8)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    picture = stored(encoded(Image.fromarray(rgba), kind, **options))
    opacity = rgba[..., 3:] / 255
    assert picture.format == "jpeg"
    assert_close(pixels(picture), np.rint(SCENE * opacity + 255 * (1 - opacity)))


def test_grey_with_alpha_stays_grey() -> None:
    alpha = np.broadcast_to(np.linspace(0, 255, 80).astype(np.uint8), (60, 80))
    grey = np.asarray(GREY)
    picture = stored(encoded(Image.fromarray(np.dstack([grey, alpha])), "PNG"))
    assert_close(pixels(picture), np.rint(grey * (alpha / 255) + 255 * (1 - alpha / 255)))


def test_a_transparent_colour_is_white_in_every_mode() -> None:
    square = np.full((64, 64, 3), 40, np.uint8)
    square[16:48, 16:48] = (200, 30, 30)
    rgb = Image.fromarray(square)
    seen = square.copy()
    seen[(square == 40).all(axis=-1)] = 255
    palette = rgb.convert("P", palette=Image.Palette.ADAPTIVE, colors=2)
    ground = palette.getpixel((0, 0))
    assert_close(pixels(stored(encoded(rgb, "PNG", transparency=(40, 40, 40)))), seen, 90)  # at edges, colour is halved
    for body in (encoded(palette, "PNG", transparency=ground), encoded(palette, "GIF", transparency=ground)):
        found = pixels(stored(body))
        assert_close(found[4:12, 4:12], seen[4:12, 4:12])
        assert_close(found[24:40, 24:40], seen[24:40, 24:40])
    grey = Image.fromarray(square[..., 0])
    found = pixels(stored(encoded(grey, "PNG", transparency=40)))
    assert found.ndim == 2
    assert_close(found[4:12, 4:12], np.full((8, 8), 255))


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP"])
def test_a_palette_becomes_rgb(kind: str) -> None:
    tiles = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    colours = tiles.repeat(16, axis=0).repeat(16, axis=1)
    palette = Image.fromarray(colours).convert("P", palette=Image.Palette.ADAPTIVE, colors=20)
    found, wanted = pixels(stored(encoded(palette, kind))), np.asarray(palette.convert("RGB"))
    assert_close(found[8::16, 8::16], wanted[8::16, 8::16])  # between tiles, JPEG lets colours run


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_one_bit_becomes_grey(kind: str) -> None:
    halves = np.zeros((64, 64), bool)
    halves[:, 32:] = True
    assert_close(pixels(stored(encoded(Image.fromarray(halves), kind))), halves * 255)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_high_byte(kind: str) -> None:
    deep = np.linspace(0, 65535, 80 * 60).astype(np.uint16).reshape(60, 80)
    assert_close(pixels(stored(encoded(Image.fromarray(deep), kind))), deep >> 8)


def test_sixteen_bit_colour_is_stored_in_eight() -> None:
    deep = SCENE.astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in deep)
    picture = stored(png(80, 60, depth=16, colour=2, data=zlib.compress(rows)))
    assert picture.format == "jpeg"
    assert_close(pixels(picture), SCENE)


def test_cmyk_becomes_rgb() -> None:
    cmyk = RGB.convert("CMYK")
    wanted = np.asarray(Image.open(BytesIO(encoded(cmyk, "JPEG", quality=95))).convert("RGB"))
    for body in (encoded(cmyk, "JPEG", quality=95), encoded(cmyk, "TIFF")):
        assert_close(pixels(stored(body)), wanted, 2 * CLOSE)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_modes_without_a_defined_range_are_refused(mode: str) -> None:
    assert refusal(encoded(GREY.convert(mode), "TIFF")) == "not-an-image"


def test_the_first_frame_of_an_animation_is_stored() -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "green", "blue")]
    for kind in ("GIF", "PNG", "WEBP", "TIFF", "AVIF"):
        picture = stored(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
        assert picture.format == "jpeg", kind
        assert_close(pixels(picture), np.full((64, 64, 3), (255, 0, 0)))


def profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def swapped() -> bytes:
    """sRGB with its red and green primaries exchanged: what it shows differs from sRGB beyond doubt."""
    data = bytearray(profile())
    count = struct.unpack(">I", data[128:132])[0]
    tags = {bytes(data[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, green = tags[b"rXYZ"], tags[b"gXYZ"]
    data[red : red + 4], data[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_profile_that_is_srgb_changes_nothing(kind: str) -> None:
    body = encoded(RGB, kind, icc_profile=profile())
    assert stored(body).image == body


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_another_profile_is_converted_to_srgb(kind: str) -> None:
    options = {"quality": 95} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    picture = stored(encoded(RGB, kind, icc_profile=swapped(), **options))
    assert picture.format == "jpeg"
    # The primaries are exchanged, so red and green are. Neutral whites stay.
    assert_close(pixels(picture), SCENE[..., [1, 0, 2]], 3 * CLOSE)
    assert "icc_profile" not in Image.open(BytesIO(picture.image)).info


@pytest.mark.parametrize("broken", [b"", b"nonsense", profile()[:200]])
def test_a_damaged_profile_is_ignored(broken: bytes) -> None:
    body = encoded(RGB, "JPEG", icc_profile=broken)
    assert stored(body).image == body


def test_a_profile_of_another_mode_is_ignored() -> None:
    body = encoded(GREY, "JPEG", icc_profile=swapped())
    assert stored(body).image == body


FRAMES = [Image.new("RGB", (64, 64), (40 * number, 0, 0)) for number in range(5)]


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_an_animation_of_too_many_frames_is_refused(kind: str) -> None:
    body = encoded(FRAMES[0], kind, save_all=True, append_images=FRAMES[1:])
    assert refusal(body, Limits(1_000_000, 256, 90, max_frames=4)) == "pixel-limit"
    assert stored(body, Limits(1_000_000, 256, 90, max_frames=5)).format == "jpeg"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize("size", [(400, 20), (20, 400)])
def test_a_side_above_max_dimension_is_refused(kind: str, size: tuple[int, int]) -> None:
    body = encoded(Image.new("RGB", size), kind)
    assert refusal(body, Limits(1_000_000, 256, 90, max_dimension=399)) == "pixel-limit"
    assert stored(body, Limits(1_000_000, 256, 90, max_dimension=400)).original_width == size[0]


def test_the_same_body_gives_the_same_bytes_and_another_quality_others() -> None:
    body = jpeg(640, 480)
    assert stored(body) == stored(body)
    assert stored(body).image != stored(body, Limits(1_000_000, 256, 60)).image


# --- hostile files ---


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_by_its_header(name: str) -> None:
    assert len(BOMBS[name]) < 2 << 20
    assert refusal(BOMBS[name]) == "pixel-limit"


def test_a_limit_above_the_picture_lets_it_through() -> None:
    body = encoded(RGB, "PNG")
    assert refusal(body, Limits(80 * 60 - 1, 256, 90)) == "pixel-limit"
    assert stored(body, Limits(80 * 60, 256, 90)).image == body


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize("tenths", range(1, 10))
def test_a_truncated_picture_is_damaged(kind: str, tenths: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    body = encoded(Image.fromarray(noise), kind)
    assert refusal(body[: len(body) * tenths // 10]) == "damaged-image"


@given(seed=integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_flipped_bytes_end_in_a_picture_or_a_refusal(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kind = str(rng.choice(["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"]))
    body = bytearray(encoded(RGB, kind))
    for place in rng.integers(0, len(body), rng.integers(1, 8)):
        body[place] = rng.integers(0, 256)
    found = sniff(bytes(body[:32]))
    if found is not None:
        try:
            picture = normalise(bytes(body), found, LIMITS)
        except Failure:
            return
        pixels(picture)


def test_only_pictures_are_sniffed() -> None:
    for head in (b"", b"\xff\xd8", b"<svg xmlns", b"<!doctype html>", b"%PDF-1.7", b"RIFF\0\0\0\0WAVE", b"%!PS-Adobe"):
        assert sniff(head) is None
    assert sniff(jpeg()[:32]) == "jpeg"

"""Decoding, resizing, naming and boxes of single pictures."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from stages.regions import Tools
from stages.regions.extract import extract_one
from stages.regions.pictures import decode
from stages.regions.starter.network import combined, vocabulary
from stages.regions.stored import StoredRegions
from tests.stages.regions.pictures import png


def run(picture: Image.Image, tools: Tools) -> StoredRegions:
    return extract_one(picture, tools.engine)


def test_boxes_lie_inside_the_picture_and_are_best_first(tools: Tools, pictures: list[Image.Image]) -> None:
    for picture in pictures:
        regions = run(picture, tools)
        x1, y1, x2, y2 = regions.boxes.T
        assert (x1 >= 0).all()
        assert (y1 >= 0).all()
        assert (x2 <= picture.width).all()
        assert (y2 <= picture.height).all()
        assert (x1 < x2).all()
        assert (y1 < y2).all()
        assert (np.diff(regions.class_scores) <= 0).all()
        assert tools.engine.policy.min_regions <= len(regions.boxes) <= tools.engine.policy.max_regions


def test_stored_probabilities_are_the_largest_of_a_distribution(tools: Tools, pictures: list[Image.Image]) -> None:
    regions = run(pictures[0], tools)
    assert (np.diff(regions.prob_values, axis=1) <= 0).all()
    assert (regions.prob_values.sum(axis=1) <= 1 + 1e-5).all()
    assert all(len(set(row)) == tools.engine.storage.prob_width for row in regions.prob_ids.tolist())


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (3000, 7), (33, 31)])
def test_pictures_of_any_size_have_regions(tools: Tools, size: tuple[int, int]) -> None:
    regions = run(Image.new("RGB", size, "teal"), tools)
    assert len(regions.boxes) >= 1
    assert (regions.boxes >= 0).all()
    assert (regions.boxes <= np.array([*size, *size])).all()
    assert np.isfinite(regions.features).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "RGBA", "I;16", "YCbCr"])
def test_every_kind_of_pixel_becomes_rgb(mode: str) -> None:
    grey = Image.linear_gradient("L").resize((8, 8))
    picture = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257) if mode == "I;16" else grey.convert(mode)
    file = io.BytesIO()
    picture.save(file, "TIFF")
    decoded = decode(file.getvalue())
    assert decoded.mode == "RGB"
    assert decoded.size == (8, 8)
    if mode not in ("1", "P", "CMYK", "YCbCr"):  # those change the values
        assert np.abs(np.asarray(decoded).astype(int) - np.asarray(grey)[..., None]).max() <= 1


def test_transparent_pixels_are_seen_on_white() -> None:
    picture = Image.new("RGBA", (2, 1), (200, 10, 10, 255))
    picture.putpixel((1, 0), (0, 0, 0, 0))
    assert np.asarray(decode(png(picture))).tolist() == [[[200, 10, 10], [255, 255, 255]]]


def test_a_palette_with_a_transparent_entry_is_seen_on_white() -> None:
    picture = Image.new("P", (2, 1), 0)
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.putpixel((1, 0), 1)
    file = io.BytesIO()
    picture.save(file, "PNG", transparency=1)
    assert np.asarray(decode(file.getvalue())).tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_a_truncated_picture_is_an_os_error() -> None:
    body = png(Image.effect_noise((64, 64), 50))
    with pytest.raises(OSError, match="truncated"):
        decode(body[: len(body) // 2])


@pytest.mark.parametrize(
    ("size", "seen"),
    [((400, 300), (427, 320)), ((6000, 200), (512, 17)), ((1, 1), (320, 320)), ((200, 640), (160, 512))],
)
def test_the_shorter_side_is_resized_unless_the_longer_would_pass(
    tools: Tools, size: tuple[int, int], seen: tuple[int, int]
) -> None:
    # 400×300: 320/300 → 426.7×320. 6000×200: 512/6000 → 512×17.07. 200×640: 512/640 → 160×512.
    assert tools.engine.network.prepare(Image.new("RGB", size)).shape == (3, seen[1], seen[0])


def test_red_stays_the_first_channel(tools: Tools) -> None:
    image = tools.engine.network.prepare(Image.new("RGB", (320, 320), (255, 0, 9)))
    assert image[:, 5, 5].tolist() == [255, 0, 9]


def test_the_vocabulary_has_each_name_once_own_classes_first() -> None:
    words = vocabulary(("banana", "kite flyer"))
    assert words.names[:2] == ("banana", "kite flyer")
    assert len(set(words.names)) == len(words.names)
    assert words.imagenet[954] == 0  # ImageNet's banana is the detector's
    assert len(words.names) == 1001  # all but the banana are new
    assert words.names[int(words.imagenet[281])] == "tabby"


def test_imagenet_shares_out_what_the_own_classes_leave() -> None:
    words = vocabulary(("banana", "kite flyer"))
    imagenet = torch.zeros(2, 1000)
    imagenet[0, 954], imagenet[0, 281] = 0.25, 0.75
    things, others = combined(torch.tensor([[0.1, 0.5, 0.4], [0.1, 0.5, 0.4]]), imagenet, words)
    probs = things + others
    assert probs[0, :2].tolist() == pytest.approx([0.1 + 0.4 * 0.25, 0.5])
    assert float(probs[0, words.imagenet[281]]) == pytest.approx(0.4 * 0.75)
    assert probs.sum(dim=1).tolist() == pytest.approx([1.0, 0.6])  # the second was not asked about

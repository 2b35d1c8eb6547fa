"""Preprocessing against OpenCV, Pillow, torchvision and detectron2, and what goes wrong when a rule is turned round."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Literal

import cv2
import numpy as np
import pytest
import torch
import torchvision.transforms.functional as transforms
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stages.regions import catalogue, compat
from stages.regions.published import picture
from stages.regions.published.settings import FasterRCNN, Input
from tests.stages.regions.published import oracle
from tests.stages.regions.published.families import FAMILIES, Family, Small


def rules(name: str) -> Input:
    entry = catalogue.load(name)
    assert isinstance(entry, FasterRCNN)
    return entry.input


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: str(family.detector))
@pytest.mark.parametrize("size", [(640, 480), (333, 500), (1200, 300), (50, 51)])
def test_the_networks_input_is_the_original_codes(family: Family, size: tuple[int, int]) -> None:
    given_rules, original = rules(family.detector), noise(*size)
    sides = Small(short_side=given_rules.short_side, long_side=given_rules.long_side)
    wanted, _ = oracle.resized(original, family, sides)
    prepared = picture.prepare(original, given_rules)
    assert torch.allclose(picture.normalised(prepared, given_rules), wanted[0], atol=1e-3)
    if prepared.dtype == torch.uint8:
        assert torch.equal(prepared.float(), (wanted[0] + torch.tensor(family.mean)[:, None, None]).round())


def test_opencvs_factor_and_rounding_are_bottom_up_attentions() -> None:
    # 500 × 375: 600 / 375 = 1.6 → 800 × 600. 1000 × 300: 2 would give 2000, so 1000 / 1000 = 1.
    # 1001 × 333: 1000 / 1001 → 1000 × 332.67, which OpenCV rounds to 333.
    for size, seen in (((500, 375), (600, 800)), ((1000, 300), (300, 1000)), ((1001, 333), (333, 1000))):
        assert picture.prepare(noise(*size), rules("butd-r101")).shape[1:] == seen


def test_opencv_itself_gives_these_floats() -> None:
    original = noise(90, 70)
    bgr = np.array(original)[:, :, ::-1].astype(np.float32) - np.array([102.9801, 115.9465, 122.7717], np.float32)
    wanted = cv2.resize(bgr, None, None, fx=600 / 70, fy=600 / 70, interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(picture.prepare(original, rules("butd-r101")).permute(1, 2, 0).numpy(), wanted)


@given(width=st.integers(1, 1500), height=st.integers(1, 1500))
def test_pillows_sides_are_detectron2s(width: int, height: int) -> None:
    compat.apply()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from detectron2.data.transforms import ResizeShortestEdge
    chosen = rules("milvlg-d2-r101")
    transform = ResizeShortestEdge(chosen.short_side, chosen.long_side).get_transform(np.zeros((height, width, 3)))
    assert picture._half_up((width, height), chosen) == (max(1, transform.new_w), max(1, transform.new_h))


def test_torchvisions_bytes_are_its_own() -> None:
    original = noise(120, 77)
    resized = np.array(transforms.resize(original, [600, 935]))[:, :, ::-1]  # 600 · 120 / 77 = 935.06
    assert np.array_equal(picture.prepare(original, rules("vinvl-x152c4")).permute(1, 2, 0).numpy(), resized)


@pytest.mark.parametrize("name", ["butd-r101", "butd-r101-hf", "milvlg-d2-r50", "vinvl-x152c4", "vmb-x101"])
@pytest.mark.parametrize("size", [(1, 1), (6000, 2), (1, 3000), (2, 1)])
def test_a_picture_of_any_size_has_an_input(name: str, size: tuple[int, int]) -> None:
    prepared = picture.prepare(noise(*size), rules(name))
    assert min(prepared.shape[1:]) >= 1
    assert max(prepared.shape[1:]) <= rules(name).long_side


@pytest.mark.parametrize("name", ["butd-r101", "butd-r101-hf", "milvlg-d2-r50", "vinvl-x152c4", "vmb-x101"])
def test_blue_comes_first_and_rgb_would_be_seen(name: str) -> None:
    """A pure blue picture: 255 less the blue mean in the first channel, the other means below zero."""
    chosen = rules(name)
    blue = Image.new("RGB", (80, 60), (0, 0, 255))
    seen = picture.normalised(picture.prepare(blue, chosen), chosen)[:, 5, 5].tolist()
    assert seen == pytest.approx([255 - chosen.mean[0], -chosen.mean[1], -chosen.mean[2]], abs=1e-3)
    flipped = replace(chosen, colours="rgb")
    other = picture.normalised(picture.prepare(blue, flipped), flipped)[:, 5, 5].tolist()
    assert other == pytest.approx([-chosen.mean[0], -chosen.mean[1], 255 - chosen.mean[2]], abs=1e-3)


def test_boxes_go_back_by_the_factor_not_by_the_rounded_sides() -> None:
    # 1001 × 333 becomes 1000 × 333: caffe divides both by 1000 / 1001, the others each side by its own ratio.
    assert picture.scale_back((333, 1001), (333, 1000), rules("butd-r101")) == pytest.approx((1.001, 1.001))
    assert picture.scale_back((333, 1001), (333, 1000), rules("vinvl-x152c4")) == pytest.approx((1.001, 1.0))


@pytest.mark.parametrize("colours", ["rgb", "bgr"])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (640, 480), (4000, 2100)])  # the last in pieces
def test_pixels_that_pillow_hands_over_are_those_that_it_writes_out(
    size: tuple[int, int], colours: Literal["rgb", "bgr"]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image, asked = Image.fromarray(pixels), replace(rules("butd-r101"), colours=colours)
    wanted = pixels if colours == "rgb" else pixels[..., ::-1]
    assert np.array_equal(picture.ordered(image, asked), wanted)
    turned = image.transpose(Image.Transpose.ROTATE_90)
    assert np.array_equal(picture.ordered(turned, asked), np.rot90(wanted))

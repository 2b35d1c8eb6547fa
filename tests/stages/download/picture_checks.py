"""Storing a picture made up here, and looking at what was stored."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from stages.download.failure import Failure
from stages.download.kinds import sniff
from stages.download.pictures import Limits, Picture, normalise
from tests.stages.download.hostile import scene

LIMITS = Limits(max_pixels=1_000_000, max_side=256, quality=95)
SCENE = scene(80, 60)  # smooth, so that JPEG keeps it within a few levels
CLOSE = 12  # of 255: what JPEG at quality 95 with halved colour may move such a scene


def stored(body: bytes, limits: Limits = LIMITS) -> Picture:
    kind = sniff(body[:32])
    assert kind is not None
    return normalise(body, kind, limits)


def pixels(picture: Picture) -> np.ndarray:
    """The stored picture as any reader sees it. Checks what is said about it on the way."""
    image = Image.open(BytesIO(picture.image))
    assert image.format is not None
    assert image.format.lower() == picture.format
    assert image.size == (picture.width, picture.height)
    assert image.getexif().get(0x0112, 1) == 1
    return np.asarray(image).astype(int)


def assert_close(found: np.ndarray, wanted: np.ndarray, most: int = CLOSE) -> None:
    assert found.shape == wanted.shape
    assert np.abs(found - wanted.astype(int)).max() <= most


def refusal(body: bytes, limits: Limits = LIMITS) -> str:
    with pytest.raises(Failure) as failure:
        stored(body, limits)
    return failure.value.reason


RGB = Image.fromarray(SCENE)
GREY = RGB.convert("L")

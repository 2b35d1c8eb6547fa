"""Any picture's pixels as 8-bit sRGB or 8-bit grey, with one defined rule for each mode.

- palette → RGB. 1-bit → grey. 16-bit grey → its high byte. CMYK → RGB by its profile, else by Pillow's formula
- alpha, in a channel or as a transparent colour → over white
- an ICC profile that fits the mode → sRGB. One that already shows colours as sRGB does (within 2 of 255) changes
  nothing. One that is damaged or belongs to another mode is ignored
- 32-bit and floating-point modes have no defined range: refused
"""

from __future__ import annotations

import functools
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

from stages.download.failure import Failure

SAME = 2  # of 255: how far an ICC profile may move colours and still count as sRGB
SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # ICC colour space -> Pillow mode


def plain(opened: Image.Image, pixels: Image.Image) -> tuple[Image.Image, bool]:
    """The pixels in mode RGB or L, and whether that shows anything else than a reader of the bytes would see.

    opened: the file, for its ICC profile and transparent colour; pixels: its first frame.
    Raises Failure not-an-image for a mode whose values have no defined meaning.
    """
    body, alpha = _split(pixels, opened.info.get("transparency"))
    body, converted = _to_srgb(body, opened.info.get("icc_profile"))
    changed = converted or alpha is not None or pixels.mode != body.mode
    if body.mode == "CMYK":
        body, changed = body.convert("RGB"), True
    if alpha is not None:
        white = Image.new(body.mode, body.size, "white")
        body = Image.composite(body, white, alpha)
    return body, changed


def _split(pixels: Image.Image, transparent: object) -> tuple[Image.Image, Image.Image | None]:
    """Colours in mode L, RGB or CMYK, and the alpha channel if there is one. transparent: or None."""
    mode = pixels.mode
    if mode.startswith("I;16"):
        values = np.asarray(pixels)
        alpha = Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8))
        return Image.fromarray((values >> 8).astype(np.uint8)), alpha if isinstance(transparent, int) else None
    if mode in ("LA", "La"):
        grey, alpha = pixels.convert("LA").split()
        return grey, alpha
    if mode in ("RGBA", "RGBa", "PA") or (transparent is not None and mode in ("1", "L", "P", "RGB")):
        red, green, blue, alpha = pixels.convert("RGBA").split()
        return (red if mode in ("1", "L") else Image.merge("RGB", (red, green, blue))), alpha
    if mode in ("L", "RGB", "CMYK"):
        return pixels, None
    if mode == "1":
        return pixels.convert("L"), None
    if mode in ("P", "RGBX", "YCbCr"):
        return pixels.convert("RGB"), None
    raise Failure("not-an-image", f"pixels of mode {mode} have no defined range")


def _to_srgb(body: Image.Image, profile: bytes | None) -> tuple[Image.Image, bool]:
    """The picture in sRGB and whether its values moved. Grey stays grey."""
    transform = profile_transform(profile, body.mode) if profile else None
    if transform is None:
        return body, False
    shown = ImageCms.applyTransform(body, transform)
    assert shown is not None  # None only for in-place work
    return (shown.convert("L") if body.mode == "L" else shown), True


@functools.lru_cache(maxsize=64)
def profile_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """What turns pictures of this profile into sRGB. None if nothing is to be done."""
    try:
        source = ImageCms.getOpenProfile(BytesIO(profile))
        if SPACES.get(source.profile.xcolor_space.strip()) != mode:
            return None
        transform = ImageCms.buildTransform(source, _srgb(), mode, "RGB")
        probe = _probe(mode)
        shown = ImageCms.applyTransform(probe, transform)
    except (ImageCms.PyCMSError, OSError, ValueError):  # a damaged profile
        return None
    assert shown is not None
    if mode == "CMYK":
        return transform
    moved = np.asarray(shown).astype(int) - np.asarray(probe.convert("RGB")).astype(int)
    return transform if np.abs(moved).max() > SAME else None


@functools.cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _probe(mode: str) -> Image.Image:
    """Colours from all over the space: every grey, or a cube of 9 steps a channel."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    cube = np.stack(np.meshgrid(*[steps] * len(mode), indexing="ij"), axis=-1)
    return Image.frombytes(mode, (steps.size ** len(mode), 1), cube.tobytes())

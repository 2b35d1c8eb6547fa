"""How the sample's pictures are encoded: as the web has them, with all that a downloader must cope with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from io import BytesIO

from PIL import Image

EXIF_ORIENTATION = 0x0112
TURNED = 6  # the value that asks a viewer to turn the picture clockwise by 90°
HTML = b"<!DOCTYPE html>\n<html><head><title>Moved</title></head><body><p>This picture has moved.</p></body></html>\n"


def jpeg(picture: Image.Image, quality: int = 92, progressive: bool = False) -> bytes:
    """Grey pictures stay grey. Colour is kept at half resolution, as cameras do."""
    flat = picture if picture.mode in ("L", "CMYK") else picture.convert("RGB")
    return _saved(flat, "JPEG", quality=quality, progressive=progressive)


def turned_by_exif(picture: Image.Image) -> bytes:
    """A JPEG that lies on its side, with the note that turns it back."""
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = TURNED
    return _saved(picture.convert("RGB").transpose(Image.Transpose.ROTATE_90), "JPEG", quality=92, exif=exif)


def png(picture: Image.Image) -> bytes:
    return _saved(picture, "PNG")


def webp(picture: Image.Image) -> bytes:
    return _saved(picture.convert("RGB"), "WEBP", quality=90)


# How demo.yaml calls an encoding -> the ending of the file, and what makes its bytes.
ENCODINGS: dict[str, tuple[str, Callable[[Image.Image], bytes]]] = {
    "jpeg": ("jpg", jpeg),
    "progressive": ("jpg", lambda picture: jpeg(picture, progressive=True)),
    "exif": ("jpg", turned_by_exif),
    "cmyk": ("jpg", lambda picture: jpeg(picture.convert("CMYK"))),
    "png": ("png", png),
    "webp": ("webp", webp),
}


def truncate(body: bytes) -> bytes:
    return body[: len(body) // 2]


def shrink(body: bytes) -> bytes:
    """The same picture at six tenths of its size, compressed harder."""
    picture = Image.open(BytesIO(body))
    size = (picture.width * 6 // 10, picture.height * 6 // 10)
    return jpeg(picture.resize(size, Image.Resampling.LANCZOS), quality=70)


def crop(body: bytes) -> bytes:
    """The left upper half: another picture, though of the same place."""
    picture = Image.open(BytesIO(body))
    return jpeg(picture.crop((0, 0, picture.width * 6 // 10, picture.height * 6 // 10)))


def tiny(body: bytes) -> bytes:
    """24 by 16 pixels of the left upper quarter: too small, and not a near duplicate besides."""
    picture = Image.open(BytesIO(body))
    return png(picture.crop((0, 0, picture.width // 2, picture.height // 2)).resize((24, 16)))


# How demo.yaml calls a change -> what it makes of the body of another picture.
CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "html": lambda body: HTML,
    "truncate": truncate,
    "wrong-checksum": lambda body: body,
    "copy": lambda body: body,
    "shrink": shrink,
    "crop": crop,
    "tiny": tiny,
}


def checksum(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def _saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()

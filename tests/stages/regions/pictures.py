"""Encoded pictures and tables of them."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pyarrow as pa
from PIL import Image

from schemas.pairs import PAIRS


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def pairs_of(encoded: list[bytes]) -> pa.Table:
    count = len(encoded)
    sides = np.ones(count, np.int32)
    return PAIRS.table(
        image_id=[hashlib.sha256(body).digest()[:16] for body in encoded],
        image=encoded,
        format=["png"] * count,
        width=sides,
        height=sides,
        original_width=sides,
        original_height=sides,
        url=[f"http://sample.invalid/{i}" for i in range(count)],
        sha256=[hashlib.sha256(body).digest() for body in encoded],
        phash=np.zeros(count, np.uint64),
        captions=[[{"text": "a thing", "original": "a thing", "lang": "en"}]] * count,
        extra=[[]] * count,
    )

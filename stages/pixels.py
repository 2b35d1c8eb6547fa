"""Pictures' bytes for the stages that need pixels: a pair may have come with its features alone."""

from __future__ import annotations

import pyarrow as pa

NO_PICTURE = "the pair came with its features alone, without a picture"


class NoPictureError(LookupError):
    """A pair has no picture."""


def stored_bytes(image: pa.Scalar) -> bytes:
    """The picture of a row of `pairs`. Raises NoPictureError where it has none."""
    if not image.is_valid:
        raise NoPictureError(NO_PICTURE)
    body: bytes = image.as_py()
    return body

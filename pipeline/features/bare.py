"""Pairs that come with their features alone, without a picture."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pyarrow as pa

from formats.features.record import Record
from formats.features.tables import UNKNOWN_SIDE
from formats.locators import Locator
from pairloom.extra import as_extra
from schemas.pairs import PAIRS

Row = tuple[Record, bytes, list[tuple[str, str | None]]]  # a picture's features, its id, and its captions


def image_id(source: str, key: str) -> bytes:
    """Of a picture without bytes: of the collection's name and the picture's key there."""
    return hashlib.sha256(f"{source}\0{key}".encode("utf-8", "surrogatepass")).digest()[:16]


def pairs_of(rows: Sequence[Row], source: str) -> pa.Table:
    """Rows of `pairs` without pictures."""
    sides = [(one.width or UNKNOWN_SIDE, one.height or UNKNOWN_SIDE) for one, _, _ in rows]
    widths, heights = [width for width, _ in sides], [height for _, height in sides]
    return PAIRS.table(
        image_id=[found for _, found, _ in rows],
        width=widths,
        height=heights,
        original_width=widths,
        original_height=heights,
        url=[str(Locator(source, one.key)) for one, _, _ in rows],
        source=[source] * len(rows),
        captions=[[_caption(*one) for one in said] for _, _, said in rows],
        extra=[as_extra({"key": one.key}) for one, _, _ in rows],
    )


def _caption(text: str, lang: str | None) -> dict[str, str | None]:
    return {"text": text, "original": text, "lang": lang, "kind": None}

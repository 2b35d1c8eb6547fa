"""Grid features (facebookresearch/grid-feats-vqa, extract_grid_feature.py): a map of the whole picture a file.

KEY.pth, or KEY.npy: [1, d, h, w] or [d, h, w]. Each cell becomes a region, row by row from the top left, whose box is
its share of the picture. Nothing says the picture's size, nor what is in a cell.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from formats.features import arrays
from formats.features.files import below
from formats.features.record import Array, Bad, BrokenError, Record, Vocabularies, bad_of
from formats.features.writing import Files
from pairloom.errors import InputError

NEEDS = ()
STORED = "<f4"
Writer = Files


def read(path: Path, floats: str = "") -> Iterator[Record | Bad]:
    """All maps below a folder, or one. floats is not needed: each array says its own."""
    ending = ".pth" if path.suffix == ".pth" or (path.is_dir() and any(path.rglob("*.pth"))) else ".npy"
    for file in below(path, ending):
        try:
            content = arrays.read_pth(file) if ending == ".pth" else arrays.read_npy(file.read_bytes())
            yield record_of(np.asarray(content), file.stem)
        except arrays.DAMAGE as error:
            yield bad_of(error, file.stem, str(file))


def record_of(values: Array, key: str) -> Record:
    """A picture of its map. Raises BrokenError for another shape."""
    plain = values[0] if values.ndim == 4 and len(values) == 1 else values
    if plain.ndim != 3 or plain.dtype.kind != "f":
        raise BrokenError(f"it is {values.dtype} of shape {values.shape}, not a map of [d, h, w]")
    depth, height, width = plain.shape
    return Record(
        key=key,
        width=None,
        height=None,
        boxes=cells(height, width),
        features=np.ascontiguousarray(plain.reshape(depth, height * width).T),
    )


def cells(height: int, width: int) -> Array:
    """The boxes of a grid's cells in shares of the picture's sides, row by row: (height · width, 4) float32."""
    y, x = np.divmod(np.arange(height * width), width)
    corners = np.stack([x / width, y / height, (x + 1) / width, (y + 1) / height], axis=1)
    shares: Array = corners.astype(np.float32)
    return shares


def entry(record: Record, words: Vocabularies) -> tuple[tuple[str, bytes]]:
    """(name, content) of a picture's file. Raises InputError where its regions are no grid."""
    sides = np.array([record.width or 1, record.height or 1] * 2, np.float32)
    shares = np.asarray(record.boxes, np.float32) / sides
    width = len(np.unique(shares[:, 0].round(4)))
    height = len(shares) // max(width, 1)
    if len(shares) != width * height or not np.allclose(shares, cells(height, width), atol=1e-3):
        what = f"the regions of {record.key!r} are no grid of cells"
        raise InputError(what, "--as grid-npy", "take a layout of regions")
    values = np.ascontiguousarray(record.features, "<f4").T.reshape(1, -1, height, width)
    return ((f"{record.key}.npy", arrays.npy_bytes(np.ascontiguousarray(values))),)

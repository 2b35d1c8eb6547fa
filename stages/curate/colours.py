"""The colours of a picture, cell by cell: they tell apart what the perceptual hash, which sees grey alone, does not."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pairloom.pictures import WIDTH as WIDTH
from pairloom.pictures import Colours
from pairloom.pictures import colours as colours
from stages.gathered import fixed_bytes

KIND = pa.binary(WIDTH)


def all_colours(images: Iterable[bytes]) -> list[Colours | None]:
    """Of each picture, in order."""
    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:  # Pillow decodes without holding the interpreter
        warnings.simplefilter("ignore")  # of odd metadata and many pixels: pictures were judged when they were fetched
        return list(pool.map(colours, images))


def colours_at(table: pa.Table, argument: list[int]) -> pa.Table:
    """The colours of the pictures in these rows: `colours`, null of one that cannot be decoded."""
    images = table["image"].take(pa.array(argument, pa.int64()))
    found = all_colours(image.as_py() or b"" for image in images)
    return pa.table({"colours": pa.array([None if each is None else each.tobytes() for each in found], KIND)})


def stacked(known: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """(positions, rows): of each picture the row with its colours (KIND), -1 for null. Rows (M, WIDTH)."""
    there = known.is_valid().to_numpy()
    positions = np.full(len(known), -1, np.int64)
    positions[there] = np.arange(there.sum())
    return positions, fixed_bytes(known.drop_null()).view(np.uint8).reshape(-1, WIDTH)

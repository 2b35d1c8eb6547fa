"""The colours of a picture, cell by cell: they tell apart what the perceptual hash, which sees grey alone, does not."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from pairloom.pictures import WIDTH as WIDTH
from pairloom.pictures import Colours
from pairloom.pictures import colours as colours


def all_colours(images: Iterable[bytes]) -> list[Colours | None]:
    """Of each picture, in order."""
    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:  # Pillow decodes without holding the interpreter
        warnings.simplefilter("ignore")  # of odd metadata and many pixels: pictures were judged when they were fetched
        return list(pool.map(colours, images))


def stacked(known: list[Colours | None]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    """(positions, rows): of each picture the row with its colours, or -1 where they are not known; rows (M, WIDTH)."""
    found = [each for each in known if each is not None]
    positions = np.full(len(known), -1, np.int32)
    there: Any = [each is not None for each in known]
    positions[there] = np.arange(len(found))
    return positions, np.array(found, np.uint8).reshape(len(found), WIDTH)

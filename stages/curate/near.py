"""Which images are the same as an earlier one, or look the same: by bytes, by perceptual hash, and then by colour.

The hash sees a picture in grey, so a red bus and the same bus in blue have one hash. Pictures with near hashes count as
one only if their colours are alike too. They are decoded for that, no others are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pairloom.pictures import Colours
from stages.curate.colours import all_colours, stacked
from stages.curate.columns import PIECE

Positions = npt.NDArray[np.int64]
Pictures = Callable[[Positions], Iterable[pa.Table]]  # tables, of columns image_id and image, that hold those there


@dataclass(frozen=True)
class Alike:
    """Up to which differences two pictures look the same."""

    distance: int  # bits of 64, of their perceptual hashes
    colour: float | None  # of (Cb, Cr), in the cell that differs most; None: colour does not count


def kept_positions(
    image_ids: npt.NDArray[np.void],
    phashes: npt.NDArray[np.uint64],
    alike: Alike | None,
    pictures: Pictures,
    pictured: npt.NDArray[np.bool_],
) -> Positions:
    """For each image the position of the earlier one that stays in its place, or its own.

    alike: None where pictures must have the same bytes. pictured: which pairs have a picture: only those look alike.
    """
    from stages.curate.duplicates import first_with_same_id  # here: numba takes its time to load

    first = first_with_same_id(image_ids)
    if alike is None:
        return first
    distinct = np.flatnonzero((first == np.arange(len(first))) & pictured)
    asked, near = _near(image_ids, phashes, distinct, alike, pictures)
    del distinct
    gone, there = asked[near >= 0], asked[near[near >= 0]]
    if len(gone):
        for start in range(0, len(first), PIECE):  # in place: another array of this length would be 8 bytes a row
            part = first[start : start + PIECE]
            place = np.minimum(np.searchsorted(gone, part), len(gone) - 1)
            np.copyto(part, there[place], where=gone[place] == part)
    return first


def _near(
    ids: npt.NDArray[np.void], phashes: npt.NDArray[np.uint64], distinct: Positions, alike: Alike, pictures: Pictures
) -> tuple[Positions, Positions]:
    """(images of these that any other looks like by its hash, of each the earlier one that it looks like, or -1).

    The latter are places among the former. All others look like none, and hide none.
    """
    from stages.curate.duplicates import near_kept, with_near

    asked = distinct[with_near(phashes[distinct], alike.distance)]
    if alike.colour is None or not len(asked):
        return asked, near_kept(phashes[asked], alike.distance)
    own = [bytes(one) for one in ids[asked]]
    found = colours_of(own, pictures(asked))
    known = [found[one] for one in own]
    return asked, near_kept(phashes[asked], alike.distance, colours=stacked(known), most=alike.colour)


def colours_of(ids: Collection[bytes], tables: Iterable[pa.Table]) -> dict[bytes, Colours | None]:
    """The colours of these images, all of which the tables hold; None for one that cannot be decoded."""
    known: dict[bytes, Colours | None] = {}
    wanted = pa.array(ids, pa.binary(16))
    for table in tables:
        asked = table.filter(pc.is_in(table["image_id"], wanted))
        images = (image.as_py() for image in asked["image"])
        known.update(zip(asked["image_id"].to_pylist(), all_colours(images), strict=True))
    return known

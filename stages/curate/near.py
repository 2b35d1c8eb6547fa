"""Which images are the same as an earlier one, or look the same: by bytes, by perceptual hash, and then by colour.

The hash sees a picture in grey, so a red bus and the same bus in blue have one hash. Pictures with near hashes count as
one only if their colours are alike too. They are decoded for that, no others are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from stages.contract import Corpus
from stages.curate.colours import KIND, colours_at, stacked
from stages.curate.columns import Array, Column, Positions, chunks
from stages.gathered import opened

Colours = Callable[[Positions], pa.ChunkedArray]  # of the pictures there, as colours.KIND


@dataclass(frozen=True)
class Alike:
    """Up to which differences two pictures look the same."""

    distance: int  # bits of 64, of their perceptual hashes
    colour: float | None  # of (Cb, Cr), in the cell that differs most; None: colour does not count


@dataclass(frozen=True)
class Images:
    """Images in list order. The arrays may lie in files."""

    ids: Array  # V16
    phashes: Array  # uint64
    pictured: Array  # bool: only pairs that have a picture look alike


def elsewhere(images: Images, alike: Alike | None, colours: Colours, folder: Path) -> tuple[Positions, Positions]:
    """(images in whose place an earlier one stays, ascending; the one that stays).

    alike: None where pictures must have the same bytes. folder: of files meanwhile.
    """
    from stages.curate.duplicates import with_same_id  # here: numba takes its time to load

    gone, first = with_same_id(images.ids, folder)
    if alike is None:
        return gone, first
    look, like = _looking_alike(images, gone, alike, colours, folder)
    if len(look):
        place = np.minimum(np.searchsorted(look, first), len(look) - 1)
        first = np.where(look[place] == first, like[place], first)
    gone, first = np.concatenate([gone, look]), np.concatenate([first, like])
    order = np.argsort(gone, kind="stable")
    return gone[order], first[order]


def _looking_alike(
    images: Images, again: Positions, alike: Alike, colours: Colours, folder: Path
) -> tuple[Positions, Positions]:
    """(images that look like an earlier one that stays; that one), but those that are there again by their bytes.

    Only images whose hash any other is near to are decided one after the other: the rest hide none.
    """
    from stages.curate.duplicates import near_kept
    from stages.curate.near_ones import near_ones

    with ExitStack() as stack:
        places, hashes = Column(folder / "distinct-places", np.int64), Column(folder / "distinct-hashes", np.uint64)
        stack.callback(places.close)
        stack.callback(hashes.close)
        for here in chunks(len(images.ids)):
            asked = np.array(images.pictured[here])
            asked[again[np.searchsorted(again, here.start) : np.searchsorted(again, here.stop)] - here.start] = False
            places.add(here.start + np.flatnonzero(asked))
            hashes.add(images.phashes[here][asked])
        near = near_ones(hashes.array(), alike.distance, folder)
        own, found = places.array()[near], hashes.array()[near]
    if alike.colour is None or not len(own):
        kept = near_kept(found, alike.distance)
    else:
        kept = near_kept(found, alike.distance, colours=stacked(colours(own)), most=alike.colour)
    return own[kept >= 0], own[kept[kept >= 0]]


def colours_in(corpus: Corpus, stage: str, rows: Mapping[str, Any]) -> pa.ChunkedArray:
    """The colours of the pictures in these rows of the stage's shards, shard by shard in order. Workers decode them."""
    files = corpus.answers({stage: ("image_id", "image")}, colours_at, rows)
    return pa.chunked_array([opened(path)["colours"].combine_chunks() for path in files.values()], KIND)

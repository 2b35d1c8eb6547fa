"""Lint, part 3: the crops of table `patches`: no box leaves its image."""

from __future__ import annotations

import numpy as np

from inspection.columns import blob_lengths, flat_blob
from inspection.lint.shard import Shard, repeat_rows


def check_patches_inside(shard: Shard) -> None:
    """Needs the columns width and height."""
    _check_inside(shard, "patch_boxes")


def check_pyramids_inside(shard: Shard) -> None:
    """Needs the columns width and height."""
    _check_inside(shard, "pyramid_boxes")


def _check_inside(shard: Shard, name: str) -> None:
    if shard.table[name].null_count:
        return  # a table has these boxes for all of its images or for none
    corners = flat_blob(shard.table[name], "<f4").reshape(-1, 4)
    rows = repeat_rows(blob_lengths(shard.table[name]) // 16)
    width, height = (shard.table[side].to_numpy()[rows] for side in ("width", "height"))
    x1, y1, x2, y2 = corners.T
    leaves = (x1 < 0) | (y1 < 0) | (x2 < x1) | (y2 < y1) | (x2 > width + 0.5) | (y2 > height + 0.5)  # 0.5: rounding
    bad = np.flatnonzero(leaves)
    shard.bad(
        "box",
        rows[bad],
        lambda i: f"{name} has {corners[bad[i]].tolist()} in an image of {width[bad[i]]} × {height[bad[i]]} pixels",
    )

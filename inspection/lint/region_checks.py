"""Lint, part 3: regions: their order, their boxes, and that every id is a word of the vocabularies."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa

from inspection.columns import Array, Numbers, flat_blob
from inspection.lint.shard import Shard, counts, repeat_rows
from pairloom.store.folder import rebuild

ROUNDING = 2e-3  # of a probability kept as float16, and of sums in float32
# Selections that take a region's class from its best score. That is a probability in all detectors but the starter,
# which weighs the classes of its two heads.
BY_BEST_CLASS = ("agnostic-stepped", "starter", "vinvl-filter2")
WEIGHED = "starter"


def check_regions(shard: Shard) -> None:
    """Best region first, scores and probabilities from 0 to 1, ids in the vocabularies, boxes that are boxes."""
    numbers = counts(shard.table)
    rows = repeat_rows(numbers)
    shard.in_range("num_regions", numbers, np.arange(len(numbers)), 1, 2**16 - 1)
    scores = flat_blob(shard.table["class_scores"], "<f4")
    shard.in_range("class_scores", scores, rows, 0, 1)
    if shard.metadata.get("order", "score") == "score":
        shard.descending("class_scores", scores, rows, rows)
    shard.in_range("attribute_scores", flat_blob(shard.table["attribute_scores"], "<f4"), rows, 0, 1)
    width = int(shard.metadata["prob_width"])
    values = flat_blob(shard.table["prob_values"], "<f2").astype("f4")
    regions = np.arange(len(rows)).repeat(width)
    shard.in_range("prob_values", values, rows.repeat(width), 0, 1)
    shard.descending("prob_values", values, regions, rows.repeat(width))
    _check_words(shard, rows, width)
    if width:
        _check_probabilities(shard, values.reshape(-1, width), rows)
    _check_boxes(shard, rows)


def _check_probabilities(shard: Shard, values_RP: Array, rows: Numbers) -> None:
    """A region's classes are different ones, their probabilities are at most 1 together, and its class is one of them.

    P: the classes kept of each of R regions.
    """
    ids_RP = flat_blob(shard.table["prob_ids"], "<u2").reshape(values_RP.shape)
    ordered_RP = np.sort(ids_RP, axis=1)
    again = np.flatnonzero((ordered_RP[:, 1:] == ordered_RP[:, :-1]).any(axis=1))
    shard.bad("doubled", rows[again], lambda i: f"a region's prob_ids repeat a class: {ids_RP[again[i]].tolist()}")
    sums_R = values_RP.sum(axis=1)
    if not shard.table["prob_background"].null_count:
        background_R = flat_blob(shard.table["prob_background"], "<f4")
        shard.in_range("prob_background", background_R, rows, 0, 1)
        sums_R = sums_R + background_R
    over = np.flatnonzero(sums_R > 1 + ROUNDING * values_RP.shape[1])
    shard.bad("sum", rows[over], lambda i: f"a region's probabilities are {sums_R[over[i]]:.3f} together, more than 1")
    _check_class(shard, ids_RP, values_RP, rows)


def _check_class(shard: Shard, ids_RP: Array, values_RP: Array, rows: Numbers) -> None:
    """No region's class score is above the probability of its class. A selection by best class keeps the best one.

    Other selections may keep a region under a class that is not its best, in which it was not suppressed.
    """
    classes_R, scores_R = flat_blob(shard.table["class_ids"], "<u2"), flat_blob(shard.table["class_scores"], "<f4")
    same_RP = ids_RP == classes_R[:, None]
    known_R = same_RP.any(axis=1)
    own_R = np.where(known_R, (values_RP * same_RP).max(axis=1), values_RP[:, -1])  # not kept: at most the last one
    bad_R = scores_R > own_R + ROUNDING
    if shard.metadata.get("selection") in BY_BEST_CLASS and shard.metadata.get("detector") != WEIGHED:
        bad_R |= own_R < values_RP[:, 0]
    bad = np.flatnonzero(bad_R)
    shard.bad(
        "class",
        rows[bad],
        lambda i: (
            f"a region is of class {classes_R[bad[i]]} with {scores_R[bad[i]]:.3f}, its probabilities are "
            f"{values_RP[bad[i]].round(3).tolist()} of classes {ids_RP[bad[i]].tolist()}"
        ),
    )


def check_features(shard: Shard, features: pa.ChunkedArray, itemsize: int) -> None:
    """No region's vector is all zeros. itemsize: bytes of a number."""
    rows, width = repeat_rows(counts(shard.table)), int(shard.metadata["feature_width"]) * itemsize
    if not width or not len(rows):
        return
    content = flat_blob(features, "u1").reshape(len(rows), width)
    whole = content.view("<u8") if width % 8 == 0 else content  # eight bytes at a time
    bad = np.flatnonzero(~whole.any(axis=1))
    shard.bad("zeros", rows[bad], lambda _: "the features of a region are all zeros")


def _check_words(shard: Shard, rows: Numbers, width: int) -> None:
    """Every class and attribute id has a name in the file's metadata."""
    columns = (
        ("class_ids", "classes", rows),
        ("prob_ids", "classes", rows.repeat(width)),
        ("attribute_ids", "attributes", rows),
    )
    for column, words, owners in columns:
        try:
            size = len(json.loads(shard.metadata[words]))
        except (KeyError, json.JSONDecodeError) as error:
            what = f"the file's metadata has no list of {words}: {error!r}"
            shard.findings.file("metadata", shard.file, what, rebuild(shard.file))
            continue
        found = flat_blob(shard.table[column], "<u2")
        bad = np.flatnonzero(found >= max(size, 1))  # without a vocabulary all ids are 0
        whats = [f"{column} has {value}, but there are only {size} {words}" for value in found[bad]]
        shard.findings.named("vocabulary", shard.file, list(zip(owners[bad].tolist(), whats, strict=True)))


def _check_boxes(shard: Shard, rows: Numbers) -> None:
    corners = flat_blob(shard.table["boxes"], "<f4").reshape(-1, 4)
    x1, y1, x2, y2 = corners.T
    bad = np.flatnonzero((x1 < 0) | (y1 < 0) | (x2 <= x1) | (y2 <= y1))
    shard.bad("box", rows[bad], lambda i: f"{corners[bad[i]].tolist()} is not a box x1 y1 x2 y2 of an image")
    if len(rows) and {"width", "height"} <= set(shard.table.column_names):
        starts = np.flatnonzero(np.diff(rows, prepend=-1))
        largest = np.maximum.reduceat(corners.max(axis=1), starts)
        sides = np.maximum(*(shard.table[side].to_numpy() for side in ("width", "height")))[rows[starts]]
        small = np.flatnonzero((largest <= 1) & (sides > 2))
        shard.bad("box", rows[starts[small]], lambda _: "boxes are shares of the image, from 0 to 1, not pixels")


def check_boxes_inside(shard: Shard) -> None:
    """No box leaves its image; needs the columns width and height."""
    corners, rows = flat_blob(shard.table["boxes"], "<f4").reshape(-1, 4), repeat_rows(counts(shard.table))
    width, height = (shard.table[name].to_numpy()[rows] for name in ("width", "height"))
    bad = np.flatnonzero((corners[:, 2] > width + 0.5) | (corners[:, 3] > height + 0.5))  # 0.5: rounding of a resize
    shard.bad(
        "box",
        rows[bad],
        lambda i: f"box {corners[bad[i]].tolist()} leaves its image of {width[bad[i]]} × {height[bad[i]]} pixels",
    )

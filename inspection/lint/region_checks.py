"""Lint, part 3: regions: their order, their boxes, and that every id is a word of the vocabularies."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.compute as pc

from inspection.columns import Numbers, flat_blob, flat_list, struct_field
from inspection.lint.shard import Shard, counts, repeat_rows
from pairloom.store.folder import rebuild


def check_regions(shard: Shard) -> None:
    """Best region first, scores and probabilities from 0 to 1, ids in the vocabularies, boxes that are boxes."""
    numbers = counts(shard.table)
    rows = repeat_rows(numbers)
    shard.in_range("num_regions", numbers, np.arange(len(numbers)), 1, 255)
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
    _check_boxes(shard, rows)


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
    bad = np.flatnonzero((x1 < 0) | (y1 < 0) | (x2 < x1) | (y2 < y1))
    shard.bad("box", rows[bad], lambda i: f"{corners[bad[i]].tolist()} is not a box x1 y1 x2 y2 of an image")


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


def check_tag_regions(shard: Shard) -> None:
    """Every tag's region is there and has the tag's class; needs the columns of regions beside the tags."""
    tags, rows = flat_list(shard.table["tags"])
    regions = struct_field(tags, "region").astype(np.int64)
    numbers = counts(shard.table)
    bad = np.flatnonzero(regions >= numbers[rows])
    shard.bad(
        "reference", rows[bad], lambda i: f"a tag is of region {regions[bad[i]]}, the image has {numbers[rows[bad[i]]]}"
    )
    there = np.flatnonzero(regions < numbers[rows])
    starts = np.concatenate([[0], np.cumsum(numbers)])
    classes = flat_blob(shard.table["class_ids"], "<u2")[starts[rows[there]] + regions[there]]
    named = struct_field(tags, "class_id")[there]
    wrong = np.flatnonzero(classes != named)
    texts = pc.struct_field(tags, "text")
    shard.bad(
        "reference",
        rows[there[wrong]],
        lambda i: f"tag {texts[there[wrong[i]]].as_py()!r} has class {named[wrong[i]]}, its region {classes[wrong[i]]}",
    )

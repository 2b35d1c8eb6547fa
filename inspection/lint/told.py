"""Lint, part 3: captions of other images, columns `negatives` and `similar`: best first, within limits, each once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow.compute as pc

from inspection.columns import Array, Numbers, flat_blob, flat_list, ids, struct_field
from inspection.lint.shard import Shard


def check_negatives(shard: Shard) -> None:
    """Most similar first, none of the image itself, one list and one `short` a caption, which fill up to top_k."""
    _check_told(shard, "negatives", most=1)
    lengths = [pc.list_value_length(shard.table[name]).to_numpy() for name in ("negatives", "short")]
    wrong = np.flatnonzero(lengths[0] != lengths[1])
    shard.bad(
        "length", wrong, lambda i: f"negatives has {lengths[0][wrong[i]]} captions, short has {lengths[1][wrong[i]]}"
    )
    if not len(wrong):
        _check_short(shard)
    if shard.made_by.get("table") == "negatives":
        check_limits(shard, "negatives", shard.made_by.get("config", {}))


def check_similar(shard: Shard) -> None:
    """The same of similar captions, where they are joined. BM25's similarity may be above 1."""
    if not shard.table["similar"].null_count:
        _check_told(shard, "similar", most=np.inf)
        if shard.made_by.get("table") == "similar":
            check_limits(shard, "similar", shard.made_by.get("config", {}))


def check_neighbours(shard: Shard) -> None:
    """Images like the row's, where they are joined: most similar first, none the image itself, none twice.

    Their regions are as many as the row says, and boxes are shares of a picture.
    """
    column = shard.table["neighbours"]
    if column.null_count:
        return
    others, rows = flat_list(column)
    similarity, theirs = struct_field(others, "similarity"), ids(pc.struct_field(others, "image_id"))
    shard.in_range("neighbours.similarity", similarity, rows, -1, 1 + 1e-3)
    shard.descending("neighbours.similarity", similarity, rows, rows)
    own = np.flatnonzero(theirs == ids(shard.table["image_id"])[rows])
    shard.bad("reference", rows[own], lambda _: "one of neighbours is the image itself")
    again = _again(rows, theirs, np.zeros(len(rows), np.uint64))
    shard.bad("doubled", rows[again], lambda _: "an image is one of neighbours twice")
    counted = np.bincount(rows, struct_field(others, "num_regions"), len(column)).astype(np.int64)
    said = shard.table["neighbour_regions"].to_numpy()
    wrong = np.flatnonzero(counted != said)
    shard.bad("length", wrong, lambda i: f"neighbours have {counted[wrong[i]]} regions, the row says {said[wrong[i]]}")
    boxes = flat_blob(shard.table["neighbour_boxes"], "<f4")
    shard.in_range("neighbour_boxes", boxes, np.repeat(np.arange(len(said)), 4 * said), -0.01, 1.01)


def check_limits(shard: Shard, name: str, config: Mapping[str, Any]) -> None:
    """config: of the stage that mined this column."""
    told, rows = flat_list(shard.table[name])
    similarity = struct_field(told, "similarity")
    ceiling, floor = np.float32(config.get("ceiling") or np.inf), np.float32(config.get("floor") or 0)
    if name == "negatives":
        above = np.flatnonzero(similarity >= ceiling)
        shard.bad(
            "ceiling", rows[above], lambda i: f"a negative's similarity is {similarity[above[i]]}, not below {ceiling}"
        )
    low = np.flatnonzero(similarity <= floor)
    shard.bad("floor", rows[low], lambda i: f"a similarity in {name} is {similarity[low[i]]}, not above {floor}")


def _check_short(shard: Shard) -> None:
    """Negatives and what is missing to them are as many for every caption; by the settings, where the file has them."""
    found = pc.list_value_length(pc.list_flatten(shard.table["negatives"])).to_numpy().astype(np.int64)
    missing, rows = flat_list(shard.table["short"])
    total = found + missing.to_numpy().astype(np.int64)
    if not len(total):
        return
    numbers, counts = np.unique(total, return_counts=True)
    config = shard.made_by.get("config", {}) if shard.made_by.get("table") == "negatives" else {}
    top_k = int(config.get("top_k") or numbers[counts.argmax()])
    bad = np.flatnonzero(total != top_k)
    shard.bad(
        "short",
        rows[bad],
        lambda i: f"short is {missing[int(bad[i])]} beside {found[bad[i]]} negatives, together they should be {top_k}",
    )


def _check_told(shard: Shard, name: str, most: float) -> None:
    """Other images' captions: most similar first, up to `most`, none of the image itself, one list for each caption."""
    column = shard.table[name].combine_chunks()
    others, rows = flat_list(column)
    inner = pc.list_flatten(column)
    caption = np.repeat(np.arange(len(inner)), pc.list_value_length(inner).to_numpy())
    similarity = struct_field(others, "similarity")
    shard.in_range(f"{name}.similarity", similarity, rows, 0, most)
    shard.descending(f"{name}.similarity", similarity, caption, rows)
    shard.texts(name, others, rows)
    theirs = ids(pc.struct_field(others, "image_id"))
    own = np.flatnonzero(theirs == ids(shard.table["image_id"])[rows])
    shard.bad("reference", rows[own], lambda _: f"one of {name} is a caption of the image itself")
    again = _again(caption, theirs, struct_field(others, "caption_index").astype(np.uint64))
    shard.bad("doubled", rows[again], lambda _: f"a caption has one of {name} twice")
    if "captions" in shard.table.column_names:
        lengths, captions = (pc.list_value_length(shard.table[each]).to_numpy() for each in (name, "captions"))
        bad = np.flatnonzero(lengths != captions)
        shard.bad("length", bad, lambda i: f"{name} of {lengths[bad[i]]} captions, the image has {captions[bad[i]]}")


def _again(caption: Numbers, images: Array, indices: Array) -> Numbers:
    """Places of what the same list has before. One number stands for each, so that little is sorted and compared."""
    if not len(caption):
        return np.zeros(0, np.int64)
    halves = images.view("<u8").reshape(-1, 2)
    mixed = (halves[:, 0] ^ (halves[:, 1] * np.uint64(0x9E3779B97F4A7C15))) + indices * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed = mixed * np.uint64(0x165667B19E3779F9) + caption.astype(np.uint64) * np.uint64(0xD6E8FEB86659FD93)
    ordered = np.sort(mixed)
    if not (ordered[1:] == ordered[:-1]).any():
        return np.zeros(0, np.int64)
    order = np.lexsort((indices, halves[:, 1], halves[:, 0], caption))
    equal = (caption[order][1:] == caption[order][:-1]) & (indices[order][1:] == indices[order][:-1])
    equal &= (halves[order][1:] == halves[order][:-1]).all(axis=1)
    found: Numbers = np.sort(order[1:][equal])
    return found

"""Lint, part 6: pictures of the split `val` that look like one of `train`, by the hashes of the table of pictures."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inspection.columns import Array, Numbers, ids
from inspection.dataset import Dataset
from inspection.lint.problem import Findings
from inspection.tables import column_names
from pairloom.pictures import Colours, colours
from pairloom.store.folder import Folder, rebuild

BITS = 64
DISTANCE, COLOUR_DISTANCE = 4, 40.0  # of near duplicates, as curate has them where its settings say nothing
AT_ONCE = 1 << 20  # pairs that are compared at a time


@dataclass(frozen=True)
class Rows:
    """Images of one split: their ids, perceptual hashes, and where they lie."""

    images: Array
    hashes: Array  # uint64
    shards: Numbers  # in the folder's order
    rows: Numbers

    def __getitem__(self, chosen: Any) -> Rows:
        return Rows(self.images[chosen], self.hashes[chosen], self.shards[chosen], self.rows[chosen])


def check_leaks(found: Dataset, sound: set[Path], findings: Findings) -> None:
    """Hashes are those of the table with pictures, where each comes once and which the rows were joined from."""
    hashed = [each for each in found.tables.values() if "phash" in column_names(each.table)]
    source = next((each for each in hashed if found.flow.distinct(each.header.stage)), None)
    if source is None or not all(source.file(entry.name) in sound for entry in source.shards):
        return
    known = _read(source, ["phash"])
    for folder in found.tables.values():
        whole = all(folder.file(entry.name) in sound for entry in folder.shards)
        if whole and folder.shards and {"split", "image"} <= set(column_names(folder.table)):
            _check_folder(folder, source, known, findings)


def _read(folder: Folder, columns: list[str]) -> Rows:
    """Rows by image; hashes are zeros without the column, and a pair without a picture, which has none, is left out."""
    tables = [table for _, table in folder.tables(["image_id", *columns])]
    tables = [table.filter(table["phash"].is_valid()) for table in tables] if columns else tables
    images = np.concatenate([np.zeros(0, "S16"), *(ids(table["image_id"]) for table in tables)])
    hashes = [table["phash"].to_numpy() if columns else np.zeros(len(table), np.uint64) for table in tables]
    shards = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    rows = np.concatenate([np.zeros(0, np.int64), *(np.arange(len(table)) for table in tables)])
    order = np.argsort(images, kind="stable")
    return Rows(images, np.concatenate([np.zeros(0, np.uint64), *hashes]), shards, rows)[order]


def _check_folder(folder: Folder, source: Folder, known: Rows, findings: Findings) -> None:
    there = _read(folder, [])
    place = np.minimum(np.searchsorted(known.images, there.images), max(len(known.images) - 1, 0))
    if not len(known.images):
        return
    listed = known.images[place] == there.images
    there = Rows(there.images, known.hashes[place], there.shards, there.rows)[listed]
    held_out = np.array([entry.name.startswith("val-") for entry in folder.shards])[there.shards]
    val, train = there[held_out], there[~held_out]
    config = source.header.config
    distance = config.get("max_distance")
    bad: dict[int, list[tuple[int, str]]] = {}
    seen: set[int] = set()
    for one, other in near_pairs(val.hashes, train.hashes, DISTANCE if distance is None else int(distance)):
        if one in seen or not _same_colours(folder, val[one], train[other], config):
            continue
        seen.add(one)
        twin = bytes(train.images[other]).ljust(16, b"\0").hex()
        what = f"it looks like image {twin} of {folder.shards[train.shards[other]].name}"
        bad.setdefault(int(val.shards[one]), []).append((int(val.rows[one]), what))
    for shard, rows in bad.items():
        file = folder.file(folder.shards[shard].name)
        told = [what for _, what in rows]
        findings.rows("leak", file, [row for row, _ in rows], told.__getitem__, _cure(source, distance))


def _cure(source: Folder, distance: int | None) -> str:
    if distance is None:
        return "set curate.max_distance in params.yaml, and run curate and all stages after it again"
    return f"the perceptual hashes of {source.path} are not those that curate compared: " + rebuild(
        source.file(source.shards[0].name)
    )


def near_pairs(some: Array, others: Array, distance: int) -> Iterator[tuple[int, int]]:
    """(place in some, place in others) of all hashes that differ in at most so many bits, some of them twice.

    Hashes that do agree in one of distance + 1 bands entirely, so that only those are compared.
    """
    edges = [BITS * band // (distance + 1) for band in range(distance + 2)]
    for low, high in itertools.pairwise(edges):
        mask = np.uint64((1 << high) - (1 << low))
        keys, order = others & mask, np.argsort(others & mask, kind="stable")
        starts, stops = (np.searchsorted(keys[order], some & mask, side=side) for side in ("left", "right"))
        for first, last in _runs(stops - starts):
            counts = (stops - starts)[first:last]
            one = np.repeat(np.arange(first, last), counts)
            other = order[
                np.arange(counts.sum()) + np.repeat(starts[first:last] - (np.cumsum(counts) - counts), counts)
            ]
            close = np.bitwise_count(some[one] ^ others[other]) <= distance
            yield from zip(one[close].tolist(), other[close].tolist(), strict=True)


def _runs(counts: Array) -> Iterator[tuple[int, int]]:
    """Spans of at most AT_ONCE together, or of one."""
    ends, start = np.cumsum(counts), 0
    while start < len(counts):
        before = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, before + AT_ONCE, side="right")), start + 1)
        yield start, stop
        start = stop


def _same_colours(folder: Folder, one: Rows, other: Rows, config: Any) -> bool:
    """As curate compares them: in no cell do Cb and Cr differ by more; True where the colours of one are not known."""
    most = config.get("max_colour_distance", COLOUR_DISTANCE)
    if most is None:
        return True
    cells = [_colours(folder, each) for each in (one, other)]
    if cells[0] is None or cells[1] is None:
        return True
    farthest = np.square(cells[0].astype(np.float64) - cells[1]).reshape(-1, 2).sum(axis=-1).max()
    return bool(farthest <= most**2)


def _colours(folder: Folder, row: Rows) -> Colours | None:
    content = folder.read(folder.shards[int(row.shards)].name, ["image"])["image"][int(row.rows)].as_py()
    return colours(content)

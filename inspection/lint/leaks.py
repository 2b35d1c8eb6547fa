"""Lint, part 6: pictures of the split `val` that look like one of `train`, by perceptual hash and colour."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from inspection.columns import Array, Numbers, ids
from inspection.dataset import Dataset
from inspection.lint.problem import Findings
from inspection.tables import column_names
from pairloom.phash import phash
from pairloom.pictures import DAMAGE, Colours, colours
from pairloom.store.folder import Folder, rebuild

BITS = 64
DISTANCE, COLOUR_DISTANCE = 4, 40.0  # of near duplicates, as curate has them where its settings say nothing
HASHED = 20_000  # pictures of a split that are hashed where no table has their hashes; 2 ms each
NAMED = 50  # images that a cure names
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


NOTHING = Rows(np.zeros(0, "S16"), np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.int64))


def check_leaks(found: Dataset, sound: set[Path], findings: Findings) -> None:
    """Hashes are those of the table with pictures, where each comes once and which the rows were joined from.

    An image that no such table has is hashed here, as in a folder of shards alone.
    """
    hashed = [each for each in found.tables.values() if "phash" in column_names(each.table)]
    source = next((each for each in hashed if found.flow.distinct(each.header.stage)), None)
    if source is not None and not all(source.file(entry.name) in sound for entry in source.shards):
        return
    known = NOTHING if source is None else _read(source, ["phash"])
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


def _check_folder(folder: Folder, source: Folder | None, known: Rows, findings: Findings) -> None:
    there = _hashed(folder, known, findings)
    held_out = _held_out(folder, there)
    val, train = there[held_out], there[~held_out]
    config = {} if source is None else source.header.config
    distance = config.get("max_distance")
    twins: dict[int, int] = {}  # a row of val: of train
    for one, other in near_pairs(val.hashes, train.hashes, DISTANCE if distance is None else int(distance)):
        if one in twins or val.images[one] == train.images[other]:
            continue  # the same image is a duplicate, which another check names
        if _same_colours(folder, val[one], train[other], config):
            twins[one] = other
    cure = _cure(folder, source, val[list(twins)])
    for shard in np.unique(val.shards[list(twins)]).tolist():
        here = [one for one in twins if val.shards[one] == shard]
        told = [
            f"it looks like image {_hex(train.images[other])} of {folder.shards[train.shards[other]].name}"
            for other in map(twins.__getitem__, here)
        ]
        findings.rows("leak", folder.file(folder.shards[shard].name), val.rows[here].tolist(), told.__getitem__, cure)


def _held_out(folder: Folder, rows: Rows) -> npt.NDArray[np.bool_]:
    return np.array([entry.name.startswith("val-") for entry in folder.shards], bool)[rows.shards]


def _hashed(folder: Folder, known: Rows, findings: Findings) -> Rows:
    """The folder's rows with the hashes that are known of their images; others are hashed, at most HASHED a split."""
    there = _read(folder, [])
    place = np.minimum(np.searchsorted(known.images, there.images), max(len(known.images) - 1, 0))
    listed = np.zeros(len(there.images), bool)
    if len(known.images):
        listed = known.images[place] == there.images
    found = Rows(there.images, known.hashes[place] if len(known.images) else there.hashes, there.shards, there.rows)
    rest = there[~listed]
    held_out = _held_out(folder, rest)
    asked = np.concatenate([np.flatnonzero(each)[:HASHED] for each in (held_out, ~held_out)])  # the lowest ids
    if len(asked) < len(rest.images):
        rule = f"of each split the {HASHED:,} with the lowest ids, {len(asked):,} of {len(rest.images):,}"
        findings.note(f"{folder.path}: pictures of val that look like one of train were sought among {rule}")
    return _joined(found[listed], _with_hashes(folder, rest[asked]))


def _joined(*parts: Rows) -> Rows:
    return Rows(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(Rows)))


def _with_hashes(folder: Folder, rows: Rows) -> Rows:
    """Of the pictures themselves; without the rows that have none, or one that cannot be decoded."""
    hashes = np.zeros(len(rows.images), np.uint64)
    there = np.zeros(len(rows.images), bool)
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor() as pool:
        for shard in np.unique(rows.shards).tolist():
            places = np.flatnonzero(rows.shards == shard)
            images = folder.read(folder.shards[shard].name, ["image"])["image"].take(rows.rows[places])
            found = list(pool.map(_phash, (image.as_py() for image in images)))
            there[places] = [each is not None for each in found]
            hashes[places] = [each or 0 for each in found]
    return Rows(rows.images, hashes, rows.shards, rows.rows)[there]


def _phash(image: bytes) -> int | None:
    try:
        return phash(Image.open(BytesIO(image)))
    except (*DAMAGE, Image.DecompressionBombError):
        return None


def _hex(image: bytes) -> str:
    return bytes(image).ljust(16, b"\0").hex()  # numpy drops a value's last zero bytes


def _cure(folder: Folder, source: Folder | None, val: Rows) -> str:
    if source is None:
        ids = ", ".join(f"'{_hex(image)}'" for image in val.images[:NAMED])
        again = " and look again" if len(val.images) > NAMED else ""
        where = f"lower(hex(image_id)) NOT IN ({ids})"
        command = f'`pairloom shards filter {folder.path} --where "{where}" --out NEW`'
        return f"run {command}{again}, or curate with max_distance first"
    if source.header.config.get("max_distance") is None:
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

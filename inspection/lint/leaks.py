"""Lint, part 6: pictures of the split `val` that look like one of `train`, by perceptual hash and colour."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from inspection.dataset import Dataset
from inspection.lint.near import NOTHING, Bands, Rows, joined, places_in, read
from inspection.lint.problem import Findings
from inspection.lint.sampling import MOST, among
from inspection.tables import column_names
from pairloom.phash import phash
from pairloom.pictures import DAMAGE, Colours, colours
from pairloom.store.folder import Folder, rebuild

DISTANCE, COLOUR_DISTANCE = 4, 40.0  # of near duplicates, as curate has them where its settings say nothing
HASHED = 20_000  # pictures of a split that are hashed where no table has their hashes, 2 ms each
NAMED = 50  # images that a cure names
SOUGHT = 200_000  # pictures of val, where a table has more than MOST rows


def check_leaks(found: Dataset, sound: set[Path], findings: Findings) -> None:
    """Hashes are those of the table with pictures, where each comes once and which the rows were joined from.

    An image that no such table has is hashed here, as in a folder of shards alone.
    """
    hashed = [each for each in found.tables.values() if "phash" in column_names(each.table)]
    source = next((each for each in hashed if found.flow.distinct(each.header.stage)), None)
    if source is not None and not all(source.file(entry.name) in sound for entry in source.shards):
        return
    for folder in found.tables.values():
        whole = all(folder.file(entry.name) in sound for entry in folder.shards)
        if whole and folder.shards and {"split", "image"} <= set(column_names(folder.table)):
            _check_folder(folder, source, findings)


def _check_folder(folder: Folder, source: Folder | None, findings: Findings) -> None:
    config = {} if source is None else source.header.config
    distance = DISTANCE if config.get("max_distance") is None else int(config["max_distance"])
    if max(folder.rows, 0 if source is None else source.rows) <= MOST:
        known = NOTHING if source is None else read(source, ["phash"])
        there = _hashed(folder, read(folder, []), known, findings)
    elif source is None:
        there = _hashed(folder, _lowest(folder), NOTHING, findings)
    else:
        there = _suspects(folder, source, distance, findings)
    held_out = _held_out(folder, there)
    val, train = there[held_out], there[~held_out]
    twins: dict[int, int] = {}  # a row of val: of train
    for one, other in _pairs(val, train, distance):
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


def _pairs(val: Rows, train: Rows, distance: int) -> Iterator[tuple[int, int]]:
    for some, others in Bands(train.hashes, distance).pairs(val.hashes):
        yield from zip(some.tolist(), others.tolist(), strict=True)


def _lowest(folder: Folder) -> Rows:
    """The rows of the lowest ids of each split, some more than are hashed."""
    rows = {
        split: sum(entry.rows for entry in folder.shards if _of_val(entry.name) == split) for split in (True, False)
    }
    shares = {split: min(1.0, 2 * HASHED / max(number, 1)) for split, number in rows.items()}
    return read(folder, [], lambda shard, images, hashes: among(images, shares[_of_val(shard)]))


def _suspects(folder: Folder, source: Folder, distance: int, findings: Findings) -> Rows:
    """Of a large table: rows of val of the lowest ids, and all of train whose hash is near to one of theirs.

    The tables are read one shard at a time, and only these rows stay in memory.
    """
    held_out = sum(entry.rows for entry in folder.shards if _of_val(entry.name))
    share = min(1.0, SOUGHT / max(held_out, 1))
    if share < 1:
        rule = f"the {SOUGHT:,} of val with the lowest ids, about, of {held_out:,}"
        findings.note(f"{folder.path}: pictures of train that look like one of val were sought for {rule}")
    val = read(folder, [], lambda shard, images, hashes: among(images, share) & _of_val(shard))
    own = read(source, ["phash"], lambda shard, images, hashes: places_in(val.images, images) >= 0)
    bands = Bands(own.hashes, distance)
    others = read(
        source, ["phash"], lambda shard, images, hashes: (places_in(own.images, images) < 0) & bands.near(hashes)
    )
    train = read(
        folder, [], lambda shard, images, hashes: (places_in(others.images, images) >= 0) & (not _of_val(shard))
    )
    return joined(_with_known(val, own), _with_known(train, others))


def _with_known(rows: Rows, known: Rows) -> Rows:
    """The rows whose hash is known, with it."""
    place = places_in(known.images, rows.images)
    there = place >= 0
    return Rows(rows.images[there], known.hashes[place[there]], rows.shards[there], rows.rows[there])


def _of_val(shard: str) -> bool:
    return shard.startswith("val-")


def _held_out(folder: Folder, rows: Rows) -> npt.NDArray[np.bool_]:
    return np.array([_of_val(name) for name in folder.shards.column("name")], bool)[rows.shards]


def _hashed(folder: Folder, there: Rows, known: Rows, findings: Findings) -> Rows:
    """The rows with the hashes that are known of their images. Others are hashed, at most HASHED a split."""
    rest = there[places_in(known.images, there.images) < 0]
    held_out = _held_out(folder, rest)
    asked = np.concatenate([np.flatnonzero(each)[:HASHED] for each in (held_out, ~held_out)])  # the lowest ids
    unknown = folder.rows - len(there.images) + len(rest.images)
    if len(asked) < unknown:
        rule = f"of each split the {HASHED:,} with the lowest ids, {len(asked):,} of {unknown:,}"
        findings.note(f"{folder.path}: pictures of val that look like one of train were sought among {rule}")
    return joined(_with_known(there, known), _with_hashes(folder, rest[asked]))


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


def _same_colours(folder: Folder, one: Rows, other: Rows, config: Any) -> bool:
    """As curate compares them: in no cell do Cb and Cr differ by more. True where the colours of one are not known."""
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

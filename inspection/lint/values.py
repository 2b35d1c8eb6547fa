"""Lint, part 2: what holds for every table, read from its schema (nulls, lengths of blobs, NaN), then its own rules."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from inspection import columns
from inspection.lint import captions, crops, region_checks, rules, swapped, tags, told
from inspection.lint.problem import Findings
from inspection.lint.shard import Shard, repeat_rows
from inspection.tables import table_of
from pairloom.errors import StoreError
from pairloom.layout import left_out_columns
from pairloom.store.folder import Folder, rebuild
from pairloom.table import Blob, Column, metadata

HEAVY = ("image", "features")  # read alone, and only once

# What is checked beyond the schema: (a rule, the columns of the tables that it holds for).
RULES: tuple[tuple[Callable[[Shard], None], tuple[str, ...]], ...] = (
    (rules.check_urls, ("url", "checksum")),
    (rules.check_sources, ("url", "sha256")),
    (rules.check_links, ("url", "sha256", "phash", "extra")),
    (captions.check_captions, ("image", "captions")),
    (region_checks.check_regions, ("num_regions", "boxes", "prob_values")),
    (region_checks.check_boxes_inside, ("image", "num_regions", "boxes")),
    (tags.check_tags, ("tags",)),
    (tags.check_tag_regions, ("tags", "num_regions", "class_ids", "attribute_ids")),
    (told.check_negatives, ("negatives", "short")),
    (told.check_similar, ("similar",)),
    (told.check_neighbours, ("neighbours", "neighbour_regions", "neighbour_boxes")),
    (rules.check_questions, ("qa",)),
    (crops.check_patches_inside, ("image", "patch_boxes")),
    (crops.check_pyramids_inside, ("image", "pyramid_boxes")),
    (rules.check_split, ("split",)),
    (rules.check_texts, ("text",)),
    (rules.check_reasons, ("stage", "reason", "row")),
)


def check_values(folder: Folder, name: str, findings: Findings) -> bool:
    """Record every wrong value of a shard whose file is as its manifest says. False if it can't be unpacked."""
    schema = table_of(folder.table)
    light = [column.name for column in schema.columns if column.name not in HEAVY]
    try:
        table = folder.read(name, light)
        shard = Shard(folder.file(name), table, metadata(table), findings, _decoded(folder, findings))
        checked = [
            _check_column(shard, column, table[column.name]) for column in schema.columns if column.name in light
        ]
        sound = all(checked)
        for column in schema.columns:
            if column.name in HEAVY and sound:
                sound = _check_column(shard, column, folder.read(name, [column.name])[column.name])
    except StoreError as error:  # the file is as it was written, but it was written wrong
        findings.file("page", folder.file(name), error.args[0], error.args[2])
        return False
    there = {column.name for column in schema.columns} - left_out_columns(shard.metadata)
    for check, needed in RULES if sound else ():
        if there.issuperset(needed):
            check(shard)
    return sound


def _decoded(folder: Folder, findings: Findings) -> int:
    """Of how many pictures one is decoded."""
    every = -(-max(folder.rows, 1) // rules.DECODED)
    if every > 1 and "image" in {column.name for column in table_of(folder.table).columns}:
        rule = f"about {rules.DECODED:,} of {folder.rows:,}, those whose id is a multiple of {every}"
        findings.note(f"{folder.path}: JPEGs were decoded to their end of {rule}")
    return every


def _check_column(shard: Shard, column: Column, values: pa.ChunkedArray) -> bool:
    """Nulls, lengths of blobs, and NaN. False where the column can't be unpacked."""
    if not column.nullable and values.null_count:
        bad = pc.indices_nonzero(values.is_null()).to_numpy()
        shard.bad("null", bad, lambda _: f"{column.name} is null")
        return False
    if column.name == "image":
        rules.check_pictures(shard, values)
    if 0 < values.null_count < len(values) and not _is_scalar(column):
        bad = pc.indices_nonzero(values.is_null()).to_numpy()
        shard.bad("null", bad, lambda _: f"{column.name} is null, in other rows of the file it is not")
        return False
    if isinstance(column.type, Blob):
        if column.nullable and values.null_count == len(values):
            return True
        return _check_blob(shard, column.name, column.type, values)
    for name, numbers, rows in columns.float_leaves(column, values):
        shard.finite(name, numbers, rows)
    return True


def _is_scalar(column: Column) -> bool:
    """Whether a row may lack it though others have it, as a licence. A table is joined to all rows or to none."""
    return not isinstance(column.type, Blob) and not pa.types.is_nested(column.type)


def _check_blob(shard: Shard, name: str, kind: Blob, values: pa.ChunkedArray) -> bool:
    """Does each blob have the length of its shape, and is no number NaN or infinite?"""
    try:
        wanted = columns.wanted_lengths(kind, shard.table, shard.metadata)
    except (KeyError, ValueError) as error:
        what = f"the file's metadata lacks a number that {name} {kind.describe()} needs: {error}"
        shard.findings.file("metadata", shard.file, what, rebuild(shard.file))
        return False
    found, dtype = columns.blob_lengths(values), kind.number(shard.metadata)
    bad = np.flatnonzero(found != wanted)
    shard.bad(
        "blob-length", bad, lambda i: f"{name} has {found[bad[i]]:,} bytes, {kind.describe()} needs {wanted[bad[i]]:,}"
    )
    if len(bad):
        return False
    if dtype.kind == "f":
        rows = repeat_rows(found // dtype.itemsize)
        shard.finite(name, columns.flat_blob(values, dtype.str), rows)
    if name == "features":
        region_checks.check_features(shard, values, dtype.itemsize)
        swapped.check_swapped(shard, values, dtype.str)
    return True

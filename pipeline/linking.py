"""Linked pictures (download.keep: link) on their way through a stage: read where it needs them, never stored by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from formats.pictures import linked
from pairloom.store.folder import read_shard
from pipeline.guard import reject_rows
from schemas.pairs import PAIRS
from schemas.quarantine import QUARANTINE
from stages.contract import kept_in


@dataclass(frozen=True)
class Linked:
    """The linked pictures of the first input of a task."""

    image_ids: tuple[bytes, ...] = ()
    rejects: pa.Table = field(default_factory=QUARANTINE.empty)  # rows whose picture is lost or changed


def read(stage: str, table: pa.Table, folder: Path) -> tuple[pa.Table, Linked]:
    """The rows with the pictures of linked ones, but those whose picture is lost."""
    rows = linked.links(table)
    if not rows:
        return table, Linked()
    ids = tuple(table["image_id"].take(pa.array(rows)).to_pylist())
    table, wrong = linked.filled(table, folder, kept_in(folder.parent))
    lost = [
        reject_rows(stage, table.slice(row, 1), error.reason, f"linked picture: {error.detail}", attempts=1)
        for row, error in sorted(wrong.items())
    ]
    good = pa.array([row not in wrong for row in range(table.num_rows)], pa.bool_())
    return table.filter(good) if wrong else table, Linked(ids, pa.concat_tables([QUARANTINE.empty(), *lost]))


def stored(output: pa.Table, table: str, found: Linked) -> pa.Table:
    """What a stage made: pairs stay linked, and shards get the bytes."""
    return linked.without(output, found.image_ids) if found.image_ids and table == PAIRS.name else output


def read_columns(file: Path, columns: Sequence[str] | None) -> pa.Table:
    """These columns of a shard, with the pictures of linked rows. One that is lost has no bytes."""
    table = read_shard(file, columns)
    if "image" not in table.column_names or not table["image"].null_count:
        return table
    whole = read_shard(file, [*dict.fromkeys(("image_id", *linked.NEEDED))])
    rows = linked.links(whole)
    if not rows:
        return table
    whole, _ = linked.filled(whole, file.parent, kept_in(file.parent.parent))
    known = pc.or_(whole["sha256"].is_null(), whole["image"].is_valid())
    image = pc.if_else(known, whole["image"], pa.scalar(b"", pa.large_binary()))
    place = table.schema.get_field_index("image")
    return table.set_column(place, table.schema.field(place), image)

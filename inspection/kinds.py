"""How many captions of each kind a table has: original, alt, synthetic, region … The other columns are not read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pyarrow.compute as pc

from inspection.columns import flat_list
from inspection.dataset import open_dataset
from inspection.flow import Flow
from inspection.spread import spread, spread_note
from pairloom.errors import StoreError
from pairloom.store.folder import Folder
from schemas.pairs import PAIRS
from schemas.shards import SHARDS
from schemas.urls import URLS

KIND = "captions.list.element.kind"
UNKNOWN = "unknown"  # what the list does not say
CAPTIONED = (SHARDS.name, PAIRS.name, URLS.name)  # tables that have captions, the latest first


def caption_kinds(folder: Folder) -> dict[str, int]:
    """Kind → captions, the most first. Empty for a table without captions. Of many shards some are counted.

    Of shards that cannot be read the rows are counted.
    """
    counts: Counter[str] = Counter()
    for entry in spread(folder.shards) if folder.table in CAPTIONED else ():
        try:
            counts.update(_counts(folder, entry.name))
        except StoreError:  # `lint` says what is wrong with it
            counts["of unreadable shards"] += entry.rows
    return dict(counts.most_common())


def _counts(folder: Folder, name: str) -> dict[str, int]:
    table = folder.read(name, [KIND])
    if not table.num_columns:  # written by pairloom 0.1.0, which knew no kinds
        captions, _ = flat_list(folder.read(name, ["captions"])["captions"])
        return {UNKNOWN: len(captions)}
    captions, _ = flat_list(table["captions"])
    kinds = pc.fill_null(pc.struct_field(captions, "kind"), UNKNOWN)
    return {item["values"]: item["counts"] for item in pc.value_counts(kinds).to_pylist()}


def last_kinds(path: Path | str, flow: Flow) -> dict[str, int]:
    """Of a table, or of the last one of a dataset that has captions. Empty if there is none."""
    found = _last(path, flow)
    return {} if found is None else caption_kinds(found)


def kinds_where(path: Path | str, flow: Flow) -> str:
    """Of which shards `last_kinds` counts. "" for all."""
    found = _last(path, flow)
    return "" if found is None else spread_note(found.shards)


def _last(path: Path | str, flow: Flow) -> Folder | None:
    folders = {folder.table: folder for folder in open_dataset(path, flow).folders()}
    return next((folders[name] for name in CAPTIONED if name in folders), None)


def kinds_text(kinds: Mapping[str, int]) -> str:
    """For a terminal."""
    return ", ".join(f"{kind} {count:,}" for kind, count in kinds.items())


def kinds_notes(kinds: Mapping[str, int], where: str = "") -> list[str]:
    """What lint says of the kinds, if the list gives any. where: as of `kinds_where`."""
    place = f" ({where})" if where else ""
    return [f"captions{place}: {kinds_text(kinds)}"] if kinds and set(kinds) != {UNKNOWN} else []

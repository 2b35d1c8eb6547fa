"""The report's facts: rows by stage, what failed and why, and where everything came from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from inspection.dataset import Dataset
from inspection.info import table_info
from pairloom.store.folder import Folder
from schemas.quarantine import REASONS

SOURCES = 3  # named in the title
EXAMPLES = 3  # of each reason of a stage
SHARDS_READ = 50  # quarantine shards that are looked into for them


def flow(found: Dataset) -> list[dict[str, Any]]:
    """One entry a stage, as inspection.info gives it, with the share of the widest stage that it kept and left out."""
    tables = [table_info(folder, found.flow) for folder in found.tables.values()]
    widest = max((max(table["rows_in"], table["rows"]) for table in tables), default=0) or 1
    for table in tables:
        table["kept_share"] = table["rows"] / widest
        table["left_out_share"] = table["left_out"] / widest
    return tables


def name(found: Dataset) -> str:
    """What the dataset is called: its list's sources, since the report is the same wherever the data lie."""
    folder = next((found.tables[stage] for stage in ("curate", "shards", "download") if stage in found.tables), None)
    first = next((entry.name for entry in folder.shards if entry.rows), None) if folder else None
    if folder is None or first is None:
        return "this dataset"
    sources = sorted(set(filter(None, folder.read(first, ["source"])["source"].to_pylist())))
    return ", ".join(sources[:SOURCES]) + (" and more" if len(sources) > SOURCES else "") or "this dataset"


def about(found: Dataset) -> list[tuple[str, str]]:
    """What made it, from the manifests: rows of the list, detector, the program's version. No clock is asked."""
    facts = []
    if "urls" in found.tables:
        facts.append(("list", f"{found.tables['urls'].rows:,} rows"))
    regions = found.tables.get("regions") or found.tables.get("shards")
    first = next((entry.name for entry in regions.shards if entry.rows), None) if regions else None
    metadata = regions.metadata(first) if regions and first else {}
    if "detector" in metadata:
        facts.append(("detector", f"{metadata['detector']} {metadata.get('checkpoint', '')[:8]}"))
    versions = sorted({folder.header.pairloom for folder in found.tables.values() if folder.header.pairloom})
    return [*facts, *([("pairloom", ", ".join(versions))] if versions else [])]


def captions_lost(tables: list[dict[str, Any]]) -> int:
    """How many captions went with duplicates. tables: as `flow` gives them."""
    return sum(table["quarantined_by_reason"].get("caption-lost", 0) for table in tables)


def failures(found: Dataset) -> list[dict[str, Any]]:
    """One entry for each reason of each stage, most frequent first: count, meaning, and a few examples."""
    entries = []
    for table in (table_info(folder, found.flow) for folder in found.tables.values()):
        counts = table["quarantined_by_reason"]
        seen = _examples(found.rejects[table["stage"]], set(counts)) if table["stage"] in found.rejects else {}
        for reason, count in counts.items():
            meaning, again = REASONS.get(reason, ("", False))
            entries.append(
                {
                    "stage": table["stage"],
                    "reason": reason,
                    "meaning": meaning,
                    "try_again": again,
                    "count": count,
                    "examples": seen.get(reason, []),
                }
            )
    return sorted(entries, key=lambda entry: (-entry["count"], entry["stage"], entry["reason"]))


def _examples(rejects: Folder, reasons: set[str]) -> dict[str, list[dict[str, Any]]]:
    """The first rows of each reason."""
    found: dict[str, list[dict[str, Any]]] = {reason: [] for reason in reasons}
    for row in _rows(rejects):
        if len(found.get(row["reason"], [None] * EXAMPLES)) < EXAMPLES:
            found[row["reason"]].append(row)
        if all(len(rows) == EXAMPLES for rows in found.values()):
            break
    return found


def _rows(rejects: Folder) -> Iterator[dict[str, Any]]:
    for entry in rejects.shards[:SHARDS_READ]:
        if entry.rows:
            yield from rejects.read(entry.name, ["key", "reason", "detail", "attempts"]).to_pylist()


def provenance(found: Dataset) -> list[dict[str, Any]]:
    """For each stage its version, its settings, and the hashes of the files that decided its result."""
    tables = [table_info(folder, found.flow) for folder in found.tables.values()]
    return [
        {
            "stage": table["stage"],
            "made_by": f"stage version {table['stage_version']}, "
            f"table {table['table']} version {table['table_version']}, pairloom {table['pairloom'] or 'unknown'}",
            "settings": {**table["config"], **{f"file {name}": digest for name, digest in table["resources"].items()}},
        }
        for table in tables
    ]

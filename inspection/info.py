"""What a table, or a whole dataset, is: counts, quarantine by reason, and where it came from."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from inspection.dataset import open_dataset
from inspection.flow import Flow
from inspection.kinds import caption_kinds, kinds_text
from inspection.spread import spread_note
from pairloom.store.folder import Folder
from schemas.quarantine import OF_A_PART


def info(path: Path | str, flow: Flow) -> dict[str, Any]:
    """Facts of the tables at or below `path`, read from their manifests: {"path", "tables": [one a table]}.

    Of a single table that has captions, their kinds are counted in its files. `kinds_where` says in which, if not all.

    Raises StoreError when there is no table, or a manifest cannot be read.
    """
    found = open_dataset(path, flow)
    for error in found.broken.values():
        raise error
    folders = list(found.tables.values() or found.folders())
    facts: dict[str, Any] = {"path": str(found.root), "tables": [table_info(folder, flow) for folder in folders]}
    if len(folders) == 1 and (kinds := caption_kinds(folders[0])):
        facts["tables"][0]["kinds"] = kinds
        if where := spread_note(folders[0].shards):
            facts["tables"][0]["kinds_where"] = where
    return facts


def table_info(folder: Folder, flow: Flow) -> dict[str, Any]:
    """The facts of one table, as plain JSON values."""
    header = folder.header
    rejected = Counter(folder.shards.rejected())
    return {
        "path": str(folder.path),
        "table": header.table,
        "table_version": header.table_version,
        "stage": header.stage,
        "stage_version": header.stage_version,
        "pairloom": header.pairloom,
        "input": flow.main_input(header.stage),
        "complete": folder.complete,
        "shards": len(folder.shards),
        "rows_in": folder.shards.total("rows_in"),
        "rows": folder.rows,
        "bytes": folder.shards.total("bytes"),
        "left_out": sum(count for reason, count in rejected.items() if reason not in OF_A_PART),
        "quarantined": sum(rejected.values()),
        "quarantined_by_reason": dict(rejected.most_common()),
        "config": dict(header.config),
        "resources": dict(header.resources),
    }


def info_text(facts: dict[str, Any]) -> str:
    """The result of `info` for a terminal: an overview when there are several tables, then each in detail."""
    tables = facts["tables"]
    if len(tables) == 1:
        return _detail(tables[0])
    head = ("stage", "table", "shards", "rows in", "rows", "left out", "size", "")
    rows = [head, *(_overview(table) for table in tables)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    right = (2, 3, 4, 5, 6)
    aligned = (
        "  ".join(cell.rjust(widths[i]) if i in right else cell.ljust(widths[i]) for i, cell in enumerate(row)).rstrip()
        for row in rows
    )
    reasons = [line for table in tables for line in _reasons(table, prefix=f"{table['stage']}: ")]
    quarantine = ["", "quarantined", *reasons] if reasons else []
    return "\n".join(
        [facts["path"], "", *aligned, *quarantine, "", "`pairloom info PATH` of one table shows its settings."]
    )


def _overview(table: dict[str, Any]) -> tuple[str, ...]:
    return (
        table["stage"],
        f"{table['table']} v{table['table_version']}",
        f"{table['shards']:,}",
        f"{table['rows_in']:,}",
        f"{table['rows']:,}",
        f"{table['left_out']:,}",
        size(table["bytes"]),
        "" if table["complete"] else "interrupted",
    )


def _detail(table: dict[str, Any]) -> str:
    lines = [
        f"{table['path']}: table {table['table']} v{table['table_version']}"
        + ("" if table["complete"] else "  INTERRUPTED: run the stage again to resume it"),
        f"  written by   stage {table['stage']} v{table['stage_version']}, pairloom {table['pairloom'] or 'unknown'}",
        f"  shards       {table['shards']:,}, {size(table['bytes'])}",
        f"  rows         {table['rows']:,} of {table['rows_in']:,}, {table['left_out']:,} left out",
        *([f"  captions     {kinds_text(table['kinds'])}{_where(table)}"] if "kinds" in table else []),
        *_reasons(table, prefix="               "),
        *_mapping("config", table["config"]),
        *_mapping("files", table["resources"]),
    ]
    return "\n".join(lines)


def _where(table: dict[str, Any]) -> str:
    return f" ({table['kinds_where']})" if "kinds_where" in table else ""


def _reasons(table: dict[str, Any], prefix: str) -> list[str]:
    return [f"  {prefix}{reason} {count:,}" for reason, count in table["quarantined_by_reason"].items()]


def _mapping(title: str, content: dict[str, Any]) -> list[str]:
    return [f"  {title if i == 0 else '':<12} {key}: {value}" for i, (key, value) in enumerate(content.items())]


def size(count: int) -> str:
    """A number of bytes for a reader."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}" if unit != "B" else f"{count} B"
        value /= 1000
    return f"{value:.3g} TB"

"""What each stage left out, and one row's way through all of them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inspection.browse.data import NUMBERED, PICTURE, Data, Row, batches
from inspection.browse.selection import quoted
from pairloom.store.folder import Folder
from schemas.quarantine import REASONS

HEX_ID = re.compile(r"\b[0-9a-f]{32}\b")
MOST_HOSTS = 30
HOST_ROWS = 500_000  # looked at for the hosts
SEEN_FOR_IDS = 5_000_000  # rows of a table in which an image is looked for by its id


@dataclass(frozen=True)
class Rejected:
    """A row in quarantine, with what can be shown of it."""

    stage: str
    shard: str
    row: int
    key: str
    reason: str
    meaning: str
    detail: str
    attempts: int
    values: dict[str, Any]  # of the input row
    picture: tuple[str, str, int] | None  # of the row itself
    other: str  # image_id of the image that stayed, for a duplicate
    other_picture: tuple[str, str, int] | None

    @property
    def captions(self) -> list[str]:
        return [
            str(caption.get("text", "")) for caption in self.values.get("captions") or [] if isinstance(caption, dict)
        ]

    @property
    def url(self) -> str:
        return str(self.values.get("url") or "")


def reasons(data: Data) -> list[dict[str, Any]]:
    """Stage, reason and how many, from the manifests alone, the most first."""
    found = [
        {"stage": stage, "reason": reason, "count": count, "meaning": REASONS.get(reason, ("", False))[0]}
        for stage, folder in data.found.tables.items()
        for reason, count in folder.shards.rejected().items()
    ]
    return sorted(found, key=lambda each: (-each["count"], each["stage"], each["reason"]))


def condition(reason: str, host: str, text: str) -> str:
    """SQL on the columns of a quarantine."""
    parts = [f"reason = {quoted(reason)}"] if reason else []
    parts += [f"{_HOST} = {quoted(host)}"] if host else []
    if text:
        parts.append(
            f'(contains(key, {quoted(text)}) OR contains(detail, {quoted(text)}) OR contains("row", {quoted(text)}))'
        )
    return " AND ".join(parts) or "true"


_URL = "coalesce(nullif(json_extract_string(\"row\", '$.url'), ''), key)"
_HOST = f"regexp_extract({_URL}, '^[a-zA-Z]+://([^/:?#]+)', 1)"


def rejected(data: Data, stage: str, where: str, start: int, count: int) -> list[Rejected]:
    """Some of the rows that a stage left out."""
    found: list[Rejected] = []
    skip = start
    folder = data.found.rejects[stage]
    for shards in batches(folder):
        files = [str(folder.here(name)) for name in shards]
        sql = (
            f"SELECT *, filename, file_row_number FROM {NUMBERED} WHERE {where} "
            f"ORDER BY length(filename), filename, file_row_number LIMIT {count - len(found)} OFFSET {skip}"
        )
        rows = data.query(sql, [files])
        found += [reject(data, stage, row) for row in rows]
        if len(found) >= count:
            break
        if not rows and skip:
            skip -= data.query(f"SELECT count(*) AS n FROM read_parquet(?) WHERE {where}", [files])[0]["n"]
        else:
            skip = 0
    return found


def hosts(data: Data, stage: str, where: str) -> list[tuple[str, int]]:
    """The hosts of these rows that come most often, of the first HOST_ROWS rows."""
    folder, counts, looked = data.found.rejects[stage], Counter[str](), 0
    for shards in batches(folder):
        files = [str(folder.here(name)) for name in shards]
        sql = f"SELECT {_HOST} AS host, count(*) AS n FROM read_parquet(?) WHERE {where} GROUP BY host"
        counts.update({row["host"]: row["n"] for row in data.query(sql, [files]) if row["host"]})
        looked += sum(entry.rows for entry in folder.shards if entry.name in set(shards))
        if looked >= HOST_ROWS:
            break
    return counts.most_common(MOST_HOSTS)


def reject(data: Data, stage: str, row: Mapping[str, Any]) -> Rejected:
    """One row of a quarantine, as `SELECT *, filename, file_row_number` gives it."""
    shard = str(row["filename"]).rsplit("/", 1)[-1].removesuffix(".parquet")
    try:
        values = json.loads(row["row"])
    except ValueError:
        values = {}
    values = values if isinstance(values, dict) else {}
    other = next((found for found in HEX_ID.findall(row["detail"] or "") if found != row["key"]), "")
    return Rejected(
        stage=stage,
        shard=shard,
        row=row["file_row_number"],
        key=row["key"],
        reason=row["reason"],
        meaning=REASONS.get(row["reason"], ("", False))[0],
        detail=row["detail"] or "",
        attempts=row["attempts"],
        values=values,
        picture=picture_of(data, stage, shard, row["key"]),
        other=other if "duplicate" in row["reason"] or row["reason"] == "caption-lost" else "",
        other_picture=_anywhere(data, other) if other else None,
    )


def picture_of(data: Data, stage: str, shard: str, key: str) -> tuple[str, str, int] | None:
    """The picture of an image that a stage left out: in the table that it read, in the shard of the same name."""
    source = data.flow.main_input(stage)
    while source and HEX_ID.fullmatch(key):
        folder = data.found.tables.get(source)
        if folder and PICTURE in data.columns_of(folder) and folder.here(shard).exists():
            there = data.by_id(folder, shard, [bytes.fromhex(key)], [])
            return (source, shard, there[0]["row"]) if there else None
        source = data.flow.main_input(source)
    return None


def _anywhere(data: Data, image_id: str) -> tuple[str, str, int] | None:
    """The picture of any image, in the table of pairs that has it."""
    for stage, folder in data.found.tables.items():
        if PICTURE in data.columns_of(folder) and folder.rows <= SEEN_FOR_IDS:
            found = data.locate(folder, [bytes.fromhex(image_id)]) if stage != "shards" else {}
            if found:
                shard, row = found[bytes.fromhex(image_id)]
                return (stage, shard, row)
    return None


@dataclass(frozen=True)
class Step:
    """What became of a row in one stage."""

    stage: str
    state: str  # kept, left out, or not reached
    place: tuple[str, int] | None  # in the stage's table
    rejects: tuple[Rejected, ...]
    settings: Mapping[str, Any]
    version: str


def way(data: Data, shard: str, image_id: str, url: str) -> list[Step]:
    """A row's way through all stages. shard: where it lies. A table whose shards are cut anew is searched by image."""
    steps: list[Step] = []
    gone = False
    for stage, folder in data.found.tables.items():
        found = _in_table(data, stage, folder, shard, image_id, url)
        left = _in_quarantine(data, stage, shard, image_id, url)
        whole = [one for one in left if not one.reason.startswith("caption-d") and one.reason != "caption-lost"]
        state = "kept" if found else "left out" if whole else "not reached" if gone else "not in this table"
        gone = gone or bool(whole and not found)
        header = folder.header
        made_by = f"version {header.stage_version}, pairloom {header.pairloom or 'unknown'}"
        steps.append(Step(stage, state, found, tuple(left), dict(header.config), made_by))
    return steps


def _in_table(data: Data, stage: str, folder: Folder, shard: str, image_id: str, url: str) -> tuple[str, int] | None:
    columns = data.columns_of(folder)
    if data.flow.recut(stage):
        if not image_id or folder.rows > SEEN_FOR_IDS:
            return None
        found: list[Row] = []
        for names in batches(folder):
            files = [str(folder.here(name)) for name in names]
            sql = f"SELECT filename, file_row_number AS \"row\" FROM {NUMBERED} WHERE image_id = from_hex('{image_id}')"
            if found := data.query(sql, [files]):
                return found[0]["filename"].rsplit("/", 1)[-1].removesuffix(".parquet"), found[0]["row"]
        return None
    if not folder.here(shard).exists():
        return None
    if "image_id" in columns and image_id:
        rows: Sequence[Row] = data.by_id(folder, shard, [bytes.fromhex(image_id)], [])
    elif "url" in columns and url:
        rows = data.keyed(folder, shard, "url", url)
    else:
        rows = []
    return (shard, rows[0]["row"]) if rows else None


def _in_quarantine(data: Data, stage: str, shard: str, image_id: str, url: str) -> list[Rejected]:
    folder = data.found.rejects.get(stage) or (data.found.rejects.get("sample") if stage == "urls" else None)
    if folder is None or not folder.here(shard).exists():
        return []
    keys = ", ".join(quoted(key) for key in (image_id, url) if key)
    sql = f"SELECT *, filename, file_row_number FROM {NUMBERED} WHERE key IN ({keys or 'NULL'})"
    return [reject(data, stage, row) for row in data.query(sql, [[str(folder.here(shard))]])]

"""Pages of what was left out: by stage, reason and host, and one row."""

from __future__ import annotations

from typing import Any

from inspection.browse import left_out
from inspection.browse.data import NUMBERED
from inspection.browse.site import PAGE, Answer, Query, Shown, Site, whole
from pairloom.errors import InputError


def left(site: Site, query: Query) -> Answer:
    """One row that a stage left out, with its way up to there."""
    number, data = site.dataset(query)
    stage, shard, place = query.get("t", ""), query.get("shard", ""), whole(query, "row", 0)
    folder = data.found.rejects.get(stage)
    if folder is None or shard not in set(folder.shards.column("name")):
        raise InputError(f"there is no quarantine of {stage!r} with shard {shard!r}", str(data.root), "follow a link")
    sql = f"SELECT *, filename, file_row_number FROM {NUMBERED} WHERE file_row_number = {place}"
    rows = data.query(sql, [[str(folder.here(shard))]])
    if not rows:
        raise InputError(f"there is no row {place} in shard {shard}", str(folder.path), "follow a link")
    found = left_out.reject(data, stage, rows[0])
    image_id = found.key if left_out.HEX_ID.fullmatch(found.key) else ""
    steps = left_out.way(data, shard, image_id, found.url or found.key)
    return Shown("left", {"d": data, "n": number, "one": found, "steps": steps})


def quarantine(site: Site, query: Query) -> Answer:
    number, data = site.dataset(query)
    reasons = left_out.reasons(data)
    stage = query.get("t") or next((each["stage"] for each in reasons if each["stage"] in data.found.rejects), "")
    reason, host, text, page = (
        query.get("reason", ""),
        query.get("host", ""),
        query.get("q", ""),
        whole(query, "page", 0),
    )
    values: dict[str, Any] = {
        "d": data, "n": number, "stage": stage, "reason": reason, "host": host, "q": text, "page": page,
        "reasons": reasons, "rows": [], "hosts": [], "more": False,
    }  # fmt: skip
    if stage in data.found.rejects:
        where = left_out.condition(reason, host, text)
        found = left_out.rejected(data, stage, where, page * PAGE, PAGE + 1)
        values |= {"rows": found[:PAGE], "more": len(found) > PAGE}
        values["hosts"] = left_out.hosts(data, stage, left_out.condition(reason, "", text))
    return Shown("quarantine", values)

"""Pages of work that takes a while: two datasets compared, and lint's faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inspection.browse.data import Data
from inspection.browse.site import WAIT_S, Answer, Query, Shown, Site, query_string, whole
from inspection.diff import diff, rows_to_compare
from inspection.lint import examine
from inspection.report.counting import count
from inspection.report.distributions import counted_in_part
from inspection.report.overlay import SIDES, curves, distributions, folder_of
from pairloom.store.folder import is_table

FAULTS = 500  # shown
COUNTED = 50  # shards of a table that distributions are counted in


def compare(site: Site, query: Query) -> Answer:
    """Two datasets of those that the command was given: what differs, distributions, loss curves."""
    number, data = site.dataset(query)
    other = whole(query, "other", min(1, len(site.datasets) - 1))
    values: dict[str, Any] = {"d": data, "n": number, "other": other, "facts": None, "job": None}
    values |= {"counted": False, "charts": [], "in_part": [], "curves": []}
    if other != number and other < len(site.datasets):
        against = site.datasets[other]
        total = rows_to_compare(data.root, against.root, data.flow)
        key = ("diff", number, other)
        job = site.jobs.get(key, lambda told: diff(data.root, against.root, data.flow, advance=told), total)
        counting = site.jobs.get(
            ("counts", number, other), lambda _: (count(data.found, COUNTED), count(against.found, COUNTED))
        )
        values |= {"job": job, "curves": curves(_plots(data, against))}
        if job.wait(WAIT_S):
            values["facts"] = job.checked()
        if counting.wait(WAIT_S):
            counts = counting.checked()
            notes = zip(SIDES, map(counted_in_part, counts), strict=True)
            values |= {"counted": True, "charts": distributions(counts)}
            values["in_part"] = [f"{side}: {note}" for side, note in notes if note]
    return Shown("compare", values)


def _plots(data: Data, against: Data) -> tuple[Path | None, Path | None]:
    """The loss curves of each side; of two datasets in one folder, whose curves are the same, once."""
    mine, theirs = (folder_of(each.root, "plots") for each in (data, against))
    same = mine is not None and theirs is not None and mine.resolve() == theirs.resolve()
    return mine, None if same else theirs


def faults(site: Site, query: Query) -> Answer:
    """What lint finds, each with its row."""
    number, data = site.dataset(query)
    job = site.jobs.get(("lint", number), lambda _: examine(data.root, data.flow))
    values: dict[str, Any] = {
        "d": data,
        "n": number,
        "ready": job.wait(WAIT_S),
        "problems": [],
        "notes": [],
        "count": 0,
    }
    if values["ready"]:
        found = job.checked()
        problems = found.problems
        values |= {"count": len(problems), "notes": found.notes}
        values["problems"] = [(problem, _row_of(data, problem.file, problem.row)) for problem in problems[:FAULTS]]
    return Shown("faults", values)


def _row_of(data: Data, file: str, row: int | None) -> str:
    """The address of the row that a problem is of."""
    for kind, folders in (("row", data.found.tables), ("left", data.found.rejects)):
        for stage, folder in folders.items():
            if row is not None and file.startswith(f"{folder.path}/") and is_table(folder.path):
                shard = file.rsplit("/", 1)[-1].removesuffix(".parquet")
                return f"{kind}?{query_string({'t': stage, 'shard': shard, 'row': str(row)})}"
    return ""

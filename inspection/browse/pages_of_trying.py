"""Pages that judge: hard negatives that may be false, and what other rules would leave out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inspection.browse import rules
from inspection.browse.cards import cards
from inspection.browse.data import Data, batches
from inspection.browse.doubts import doubts
from inspection.browse.pages_of_rows import places_of
from inspection.browse.rules import OWN, SLIDERS
from inspection.browse.site import PAGE, WAIT_S, Answer, Query, Shown, Site, whole
from pairloom.errors import ConfigError, InputError

RULE_ROWS = (500, 1000, 5000)  # on which rules are tried


def negatives(site: Site, query: Query) -> Answer:
    """The negatives of a part of the table, the most doubtful first."""
    number, data = site.dataset(query)
    named = [stage for stage in data.tables() if "negatives" in data.table(stage).every_column]
    if not named:
        raise InputError("no table here has hard negatives", str(data.root), "run the stage negatives")
    default = data.default_table()
    table = data.table(query.get("t") or (default if default in named else named[-1]))
    page, count = whole(query, "page", 0), 200
    start = page * count
    shown = cards(data, table, data.rows(table, table.places(start, count)))
    every = doubts(data, table.every_column.get("tags"), shown)
    pictured = {bytes.fromhex(doubt.negative.image_id) for doubt in every[:PAGE]}
    values = {
        "d": data, "n": number, "t": table, "page": page, "start": start, "rows": len(shown),
        "total": table.folder.rows,
        "doubts": every[:PAGE], "every": len(every), "doubtful": sum(doubt.doubtful for doubt in every),
        "places": places_of(data, table, pictured), "more": start + count < table.folder.rows,
    }  # fmt: skip
    return Shown("negatives", values)


def try_rules(site: Site, query: Query) -> Answer:
    """What two sets of rules would leave out of the first rows."""
    number, data = site.dataset(query)
    curating = site.curating
    folder = data.found.tables.get(curating.stage)
    if folder is None or not folder.rows:
        raise InputError(f"there is no table {curating.stage} to try rules on", str(data.root), "run that stage first")
    own, unknown = _own(data, curating)
    profiles = [*([OWN] if own else []), *curating.profiles()]
    names = [query.get(side, "") or default for side, default in (("a", profiles[0]), ("b", profiles[0]))]
    for name in names:
        if name not in profiles:
            raise InputError(f"there are no rules {name!r}", "the form", f"name one of {', '.join(profiles)}")
    changes = {name: query[name] for name, *_ in SLIDERS if query.get(name)}
    rows = min(whole(query, "rows", RULE_ROWS[1]), RULE_ROWS[-1])
    shards = next(batches(folder, rows, rows))
    sections = (rules.section_of(names[0], own, changes), rules.section_of(names[1], own, {}))
    base = curating.settings(rules.section_of(names[0], own, {}))
    key = ("rules", number, str(sections), rows)
    job = site.jobs.get(key, lambda _: rules.compare(curating, data.found.tables, shards, sections))
    values: dict[str, Any] = {
        "d": data, "n": number, "profiles": profiles, "names": names, "changes": changes, "sliders": SLIDERS,
        "base": base, "rows": rows, "row_choices": RULE_ROWS, "ready": job.wait(WAIT_S * 5),
        "found": None, "only": [[], []], "unknown": unknown,
    }  # fmt: skip
    if values["ready"]:
        values["found"] = job.checked()
        values["only"] = [_judged(data, values["found"].only[side][:PAGE]) for side in range(2)]
    return Shown("rules", values)


def _own(data: Data, curating: rules.Curating) -> tuple[dict[str, Any], str]:
    """The settings that the dataset was curated with, if there are any, and why they cannot be tried, if so."""
    section = dict(data.found.tables["curate"].header.config) if "curate" in data.found.tables else {}
    try:
        curating.settings(section)
    except ConfigError as error:  # of another version of pairloom
        return {}, error.args[0]
    return section, ""


def _judged(data: Data, verdicts: Sequence[rules.Verdict]) -> list[dict[str, Any]]:
    """Each verdict with the row that it is of."""
    found = []
    table = data.table("download")
    for verdict in verdicts:
        there = data.by_id(table.folder, verdict.shard, [bytes.fromhex(verdict.key)], [])
        if there:
            place = (verdict.shard, there[0]["row"])
            found.append({"verdict": verdict, "card": cards(data, table, data.rows(table, [place]))[0]})
    return found

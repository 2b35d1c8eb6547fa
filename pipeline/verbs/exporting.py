"""`pairloom export SHARDS --as LAYOUT`: training shards in the layouts that other code reads."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from formats.features import names
from pipeline.verbs.common import Outcome, add_verb


def add(verbs: Any) -> None:
    verb = add_verb(
        verbs,
        "export",
        export,
        "write shards in the layout that other training code reads",
        "pairloom export data/shards --as uniter-lmdb --out uniter",
    )
    verb.add_argument("shards", type=Path, help="folder of training shards, or a table of regions")
    verb.add_argument("--as", dest="layout", required=True, choices=names(), help="layout to write")
    verb.add_argument("--out", type=Path, required=True, help="new folder; the same command resumes there")
    verb.add_argument("--key", help="column of the list that names pictures (default: key, image_id or id of the list)")
    verb.add_argument("--no-check", action="store_true", help="do not read everything back afterwards")
    verb.add_argument("--quiet", action="store_true", help="print progress as plain lines")


def export(arguments: argparse.Namespace) -> Outcome:
    """Write, read back, list."""
    from pipeline.features import outgoing

    done = outgoing.export(
        arguments.shards, arguments.layout, arguments.out, arguments.key, not arguments.no_check, arguments.quiet
    )
    lines = [f"{place}: {count} pictures" for place, count in done.folders.items()]
    said = f"{done.checked} read back and equal" if done.checked else "not read back (--no-check)"
    resumed = f", {done.resumed} shards of an earlier run kept" if done.resumed else ""
    lines.append(f"export: {sum(done.folders.values())} pictures as {arguments.layout}, {said}{resumed}")
    facts = {"folders": done.folders, "checked": done.checked, "resumed": done.resumed}
    return Outcome(facts, "\n".join(lines))

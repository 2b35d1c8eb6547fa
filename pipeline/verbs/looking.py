"""`pairloom report`, `info`, `lint`, `preview` and `doctor`: they look at a dataset or the installation."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.verbs.common import Outcome, add_verb


def add(verbs: Any) -> None:
    verb = add_verb(verbs, "report", report, "write an HTML page about a dataset", "pairloom report --data data")
    verb.add_argument("--data", type=Path, default=Path("data"), help="folder of the dataset (default: data)")
    verb.add_argument("--out", type=Path, help="the page (default: DATA/report/index.html)")
    verb.add_argument("--metrics", type=Path, default=Path("metrics"), help="folder of metrics (default: metrics)")
    verb.add_argument("--plots", type=Path, default=Path("plots"), help="folder of loss curves (default: plots)")
    verb = add_verb(
        verbs, "info", info, "show what a table or dataset holds and what made it", "pairloom info data/regions"
    )
    verb.add_argument("folder", type=Path)
    verb = add_verb(
        verbs,
        "lint",
        lint,
        "check a table or dataset; exit with 1 if anything is wrong",
        "pairloom lint data",
    )
    verb.add_argument("folder", type=Path)
    verb = add_verb(
        verbs,
        "preview",
        preview,
        "show one row of a table",
        "pairloom preview data/regions --row 00000:3 --out row.png",
    )
    verb.add_argument("folder", type=Path)
    verb.add_argument("--row", required=True, help="start of an image_id in hex, a url, or SHARD:ROW")
    verb.add_argument("--out", type=Path, help="write the picture with its boxes here")
    add_verb(verbs, "doctor", doctor, "show versions, devices, free disk space, and what is missing", "pairloom doctor")


def report(arguments: argparse.Namespace) -> Outcome:
    """Write the HTML page about a dataset."""
    from inspection.report import write_report
    from pipeline.stage import flow

    out = arguments.out or arguments.data / "report" / "index.html"
    summary = write_report(arguments.data, out, flow(), arguments.metrics, arguments.plots)
    return Outcome({"report": str(out), **summary}, f"report: {out}")


def info(arguments: argparse.Namespace) -> Outcome:
    """What a table or dataset holds."""
    from inspection.info import info, info_text
    from pipeline.stage import flow

    found = info(arguments.folder, flow())
    return Outcome(found, info_text(found))


def lint(arguments: argparse.Namespace) -> Outcome:
    """Every check of a table or dataset."""
    from inspection.kinds import kinds_notes, last_kinds
    from inspection.lint import examine, lint_text
    from pipeline.stage import flow

    findings, kinds = examine(arguments.folder, flow()), last_kinds(arguments.folder, flow())
    problems = [problem.as_json() for problem in findings.problems]
    found = {"folder": str(arguments.folder), "problems": problems, "notes": findings.notes, "kinds": kinds}
    text = lint_text(findings.problems, [*findings.notes, *kinds_notes(kinds)])
    return Outcome(found, text, exit_code=1 if problems else 0)


def preview(arguments: argparse.Namespace) -> Outcome:
    """One row of a table."""
    from inspection.preview import preview
    from pipeline.stage import flow

    shown = preview(arguments.folder, arguments.row, flow(), arguments.out)
    return Outcome(shown.facts, shown.text)


def doctor(arguments: argparse.Namespace) -> Outcome:
    """What is installed, what is there to compute on, and what is missing."""
    from pipeline.doctor import report as examine
    from pipeline.doctor import text

    checks = examine()
    missing = [check for check in checks if check.required and not check.ok]
    return Outcome({"checks": [asdict(check) for check in checks]}, text(checks), exit_code=1 if missing else 0)

"""`pairloom report`, `info`, `lint`, `preview`, `diff` and `doctor`: they look at a dataset or the installation."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.progress import Progress
from pipeline.verbs.common import Outcome, add_verb, bucket_address, local, on_tables, place


def add(verbs: Any) -> None:
    verb = add_verb(
        verbs,
        "report",
        reported,
        "write an HTML page about a dataset (it has no date, as tables hold none)",
        "pairloom report --data data",
    )
    verb.add_argument(
        "--data", type=place, default=Path("data"), help="folder or address of the dataset (default: data)"
    )
    verb.add_argument("--out", type=local, help="the page (default: DATA/report/index.html, or report/index.html)")
    verb.add_argument("--metrics", type=local, default=Path("metrics"), help="folder of metrics (default: metrics)")
    verb.add_argument("--plots", type=local, default=Path("plots"), help="folder of loss curves (default: plots)")
    verb.add_argument(
        "--beside", type=place, metavar="OTHER", help="a second dataset, shown beside; its metrics and plots lie there"
    )
    _add_tables(verbs)
    summary = "show versions, devices, free disk space, and what is missing"
    verb = add_verb(verbs, "doctor", doctor, summary, "pairloom doctor s3://bucket/data")
    verb.add_argument(
        "bucket", type=bucket_address, nargs="?", help="then only whether a run can read and write at this address"
    )


def _add_tables(verbs: Any) -> None:
    """The commands that look at a table or a dataset."""
    verb = add_verb(
        verbs,
        "info",
        on_tables(info, "folder"),
        "show what a table or dataset holds and what made it",
        "pairloom info data/regions",
    )
    verb.add_argument("folder", type=place, help="a table or a dataset: a folder, or an address in a bucket")
    verb = add_verb(
        verbs,
        "lint",
        on_tables(lint, "folder"),
        "check a table or dataset and exit with 1 if anything is wrong",
        "pairloom lint data",
    )
    verb.add_argument("folder", type=place, help="a table or a dataset: a folder, or an address in a bucket")
    verb = add_verb(
        verbs,
        "preview",
        on_tables(preview, "folder"),
        "show one row of a table",
        "pairloom preview data/regions --row 00000:3 --out row.png",
    )
    verb.add_argument("folder", type=place, help="a table or a dataset: a folder, or an address in a bucket")
    verb.add_argument("--row", required=True, help="start of an image_id in hex, a url, or SHARD:ROW")
    verb.add_argument("--out", type=local, help="write the picture with its boxes here")
    verb = add_verb(
        verbs,
        "diff",
        on_tables(diff, "a", "b"),
        "show what differs between two tables or datasets and exit with 1 if anything does",
        "pairloom diff data other/data",
    )
    verb.add_argument("a", type=place, metavar="A", help="a table's folder or address, or a dataset's")
    verb.add_argument("b", type=place, metavar="B")
    verb.add_argument(
        "--tolerance",
        type=float,
        default=0.0,
        help="numbers are equal that differ by this at most, beyond 1 by this share (default: 0)",
    )
    verb.add_argument("--quiet", action="store_true", help="print progress as plain lines")


def reported(arguments: argparse.Namespace) -> Outcome:
    """The page about a dataset; of one at an address it is written here."""
    if arguments.out is None:
        beside = arguments.data if isinstance(arguments.data, Path) else Path()
        arguments = argparse.Namespace(**(vars(arguments) | {"out": beside / "report" / "index.html"}))
    arguments.beside_name = str(arguments.beside)  # an address is a folder from here on
    names = ["data", *(["beside"] if arguments.beside is not None else [])]
    return on_tables(report, *names)(arguments)


def report(arguments: argparse.Namespace) -> Outcome:
    """Write the HTML page about a dataset."""
    from inspection.report import write_report
    from pipeline.stage import flow

    folders = (arguments.metrics, arguments.plots, arguments.beside)
    summary = write_report(arguments.data, arguments.out, flow(), *folders, arguments.beside_name)
    return Outcome({"report": str(arguments.out), **summary}, f"report: {arguments.out}")


def info(arguments: argparse.Namespace) -> Outcome:
    """What a table or dataset holds."""
    from inspection.info import info, info_text
    from pipeline.stage import flow

    found = info(arguments.folder, flow())
    return Outcome(found, info_text(found))


def lint(arguments: argparse.Namespace) -> Outcome:
    """Every check of a table or dataset."""
    from inspection.kinds import kinds_notes, kinds_where, last_kinds
    from inspection.lint import examine, lint_text
    from pipeline.stage import flow

    findings, kinds = examine(arguments.folder, flow()), last_kinds(arguments.folder, flow())
    problems = [problem.as_json() for problem in findings.problems]
    found = {"folder": str(arguments.folder), "problems": problems, "notes": findings.notes, "kinds": kinds}
    text = lint_text(findings.problems, [*findings.notes, *kinds_notes(kinds, kinds_where(arguments.folder, flow()))])
    return Outcome(found, text, exit_code=1 if problems else 0)


def preview(arguments: argparse.Namespace) -> Outcome:
    """One row of a table."""
    from inspection.preview import preview
    from pipeline.stage import flow

    shown = preview(arguments.folder, arguments.row, flow(), arguments.out)
    return Outcome(shown.facts, shown.text)


def diff(arguments: argparse.Namespace) -> Outcome:
    """What differs between two tables or datasets."""
    from inspection.diff import diff, diff_text, rows_to_compare
    from pipeline.stage import flow

    stages = flow()
    total = rows_to_compare(arguments.a, arguments.b, stages)
    with Progress("diff", total, plain=arguments.quiet) as progress:
        facts = diff(arguments.a, arguments.b, stages, arguments.tolerance, progress.advance)
    return Outcome(facts, diff_text(facts), exit_code=0 if facts["equal"] else 1)


def doctor(arguments: argparse.Namespace) -> Outcome:
    """What is installed, what is there to compute on, and what is missing. Or whether a run can work in a bucket."""
    from pipeline import bucket_check
    from pipeline.doctor import report as examine
    from pipeline.doctor import text

    checks = bucket_check.report(arguments.bucket) if arguments.bucket else examine()
    missing = [check for check in checks if check.required and not check.ok]
    return Outcome({"checks": [asdict(check) for check in checks]}, text(checks), exit_code=1 if missing else 0)

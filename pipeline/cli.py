"""The command `pairloom`: parse the line, call the command, print its result, turn errors into exit codes."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from pipeline import commands
from schemas.errors import PairloomError

EXAMPLES = """examples:
  pairloom run --urls my.csv --out my-data      every stage on your own list
  pairloom stage regions --redo                 one stage, shards of other settings made again
  pairloom train uniter --shards data/shards    a recipe on finished shards
  pairloom info data/regions                    what a table holds and what made it
  pairloom lint data                            every check; exits 1 if anything is wrong
  pairloom preview data/regions --row 3f9a      one row, with a picture of its boxes
  pairloom doctor                               versions, devices, disk, and what is missing
Every command takes --json: one machine-readable result on standard output, messages on standard error."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Exit code 0: all done; 1: something is wrong; 2: wrong usage; 130, 143: interrupted."""
    arguments = parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        result = arguments.command(arguments)
    except PairloomError as error:
        _fail(error, arguments.json)
        return 1
    except KeyboardInterrupt:
        print("interrupted: finished shards are kept; the same command goes on from here", file=sys.stderr)
        return 130
    _print(result, arguments.json)
    return int(result.exit_code)


def _terminate(number: int, frame: FrameType | None) -> None:
    print("terminated: finished shards are kept; the same command goes on from here", file=sys.stderr)
    raise SystemExit(128 + number)


def _fail(error: PairloomError, as_json: bool) -> None:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    if as_json:
        what, where, fix = error.args
        print(json.dumps({"error": type(error).__name__, "what": what, "where": where, "fix": fix}))


def _print(result: commands.Outcome, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result.facts, ensure_ascii=False, sort_keys=True))
    elif result.text:
        print(result.text)


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(
        prog="pairloom",
        description="Lists of image-text pairs into training shards for vision-language pre-training.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.set_defaults(command=None)
    verbs = root.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_pipeline(verbs)
    _add_looking(verbs)
    return root


def _verb(verbs: Any, name: str, command: Any, summary: str, example: str) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("--json", action="store_true", help="one JSON object on standard output")
    verb.set_defaults(command=command)
    return verb


def _pipeline_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--params", type=Path, default=Path("params.yaml"), help="settings (default: params.yaml)")
    verb.add_argument("--redo", action="store_true", help="make again what other settings made, instead of refusing")
    verb.add_argument("--quiet", action="store_true", help="progress as plain lines")
    verb.add_argument("--cluster", help="inline, local, or tcp://host:port of a Dask scheduler; overrides run.cluster")
    verb.add_argument("--workers", type=int, help="processes for the local cluster; overrides run.workers")


def _add_pipeline(verbs: Any) -> None:
    verb = _verb(
        verbs, "run", commands.run, "every stage, from a URL list to shards", "pairloom run --urls my.csv --out my-data"
    )
    verb.add_argument("--urls", help="csv, tsv, jsonl, parquet or txt list (default: sample.urls of params.yaml)")
    verb.add_argument("--out", type=Path, default=Path("data"), help="folder of the dataset (default: data)")
    _pipeline_options(verb)
    verb = _verb(
        verbs, "stage", commands.stage, "one stage, on what its inputs hold", "pairloom stage tags --data data"
    )
    verb.add_argument("name", help="sample, download, curate, regions, tags, negatives or shards")
    verb.add_argument("--data", type=Path, default=Path("data"), help="folder of the dataset (default: data)")
    verb.add_argument("--metrics", type=Path, default=Path("metrics"), help="folder for the counts (default: metrics)")
    _pipeline_options(verb)
    verb = _verb(
        verbs,
        "train",
        commands.train,
        "train a recipe on shards",
        "pairloom train uniter --shards data/shards --steps 300",
    )
    verb.add_argument("recipe", help="a name in trainer/recipes")
    verb.add_argument(
        "--shards", type=Path, default=Path("data/shards"), help="folder of shards (default: data/shards)"
    )
    verb.add_argument("--out", type=Path, help="folder for the checkpoint (default: data/train/RECIPE)")
    verb.add_argument("--metrics", type=Path, default=Path("metrics"), help="folder for metrics (default: metrics)")
    verb.add_argument("--plots", type=Path, default=Path("plots"), help="folder for the loss curve (default: plots)")
    verb.add_argument("--params", type=Path, default=Path("params.yaml"), help="settings (default: params.yaml)")
    verb.add_argument("--steps", type=int, help="overrides train.RECIPE.steps")
    verb.add_argument("--seed", type=int, help="overrides train.RECIPE.seed")
    verb.add_argument("--quiet", action="store_true", help="progress as plain lines")


def _add_looking(verbs: Any) -> None:
    verb = _verb(verbs, "report", commands.report, "one HTML page about a dataset", "pairloom report --data data")
    verb.add_argument("--data", type=Path, default=Path("data"), help="folder of the dataset (default: data)")
    verb.add_argument("--out", type=Path, help="the page (default: DATA/report/index.html)")
    verb.add_argument("--metrics", type=Path, default=Path("metrics"), help="folder of metrics (default: metrics)")
    verb.add_argument("--plots", type=Path, default=Path("plots"), help="folder of loss curves (default: plots)")
    verb = _verb(
        verbs, "info", commands.info, "what a table or dataset holds and what made it", "pairloom info data/regions"
    )
    verb.add_argument("folder", type=Path)
    verb = _verb(
        verbs,
        "lint",
        commands.lint,
        "every check of a table or dataset; exits 1 if anything is wrong",
        "pairloom lint data",
    )
    verb.add_argument("folder", type=Path)
    verb = _verb(
        verbs,
        "preview",
        commands.preview,
        "one row of a table",
        "pairloom preview data/regions --row 00000:3 --out row.png",
    )
    verb.add_argument("folder", type=Path)
    verb.add_argument("--row", required=True, help="start of an image_id in hex, a url, or SHARD:ROW")
    verb.add_argument("--out", type=Path, help="write the picture with its boxes here")
    _verb(verbs, "doctor", commands.doctor, "versions, devices, free disk, and what is missing", "pairloom doctor")


if __name__ == "__main__":
    sys.exit(main())

"""What the subcommands share: their result, how a verb is added to the command line, and how to run a stage."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

from pipeline.config import RunConfig
from pipeline.executor import Options
from pipeline.params import Params


@dataclass(frozen=True)
class Outcome:
    """A command's result: facts for --json, text for people, and the exit code."""

    facts: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    exit_code: int = 0


def add_verb(verbs: Any, name: str, command: Any, summary: str, example: str) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("--json", action="store_true", help="print one JSON object to standard output")
    verb.set_defaults(command=command)
    return verb


def bold(text: str, stream: TextIO) -> str:
    """The text so that it stands out where it is printed to, if that is a terminal."""
    return f"\033[1m{text}\033[0m" if stream.isatty() else text


def add_run_options(verb: argparse.ArgumentParser) -> None:
    add_params_options(verb)
    verb.add_argument(
        "--redo", action="store_true", help="replace what other settings made; without it the command stops"
    )
    verb.add_argument("--quiet", action="store_true", help="print progress as plain lines")
    verb.add_argument("--cluster", help="inline, local, or tcp://host:port of a Dask scheduler; overrides run.cluster")
    verb.add_argument("--workers", type=int, help="processes for the local cluster; overrides run.workers")


def add_params_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--params", type=Path, help="settings (default: params.yaml, where there is one)")
    verb.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        dest="settings",
        help="a setting in place of the file's, such as negatives.top_k=12; may be given several times",
    )


SELECTION = ("selection", "min_regions", "max_regions", "min_score", "nms")


def add_selection_options(verb: argparse.ArgumentParser) -> None:
    """Those of section regions that say which regions are kept; a detector's file may set them too."""
    verb.add_argument("--selection", help="butd, fixed-36, vmb-100, … (default: the detector's own)")
    verb.add_argument("--min-regions", type=int, help="least regions of an image, whatever their score")
    verb.add_argument("--max-regions", type=int, help="most regions of an image, the best first")
    verb.add_argument("--min-score", type=float, help="detector confidence from which regions are kept, 0 to 1")
    verb.add_argument(
        "--nms",
        type=thresholds,
        metavar="IOU[,IOU…]",
        help="overlap above which the worse of two regions goes; or steps of agnostic-stepped or detectron2: 0.5,0.7",
    )


def thresholds(text: str) -> float | list[float]:
    """ "0.3" or "0.3,0.5,0.7"."""
    numbers = [float(part) for part in text.split(",")]
    return numbers if len(numbers) > 1 else numbers[0]


def selection_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the command line says of the selection, as settings of section regions."""
    return {name: getattr(arguments, name) for name in SELECTION if getattr(arguments, name) is not None}


def run_options(params: Params, arguments: argparse.Namespace) -> Options:
    settings = params.build(RunConfig, "run")
    if arguments.cluster:
        settings = replace(settings, cluster=arguments.cluster)
    if arguments.workers:
        settings = replace(settings, workers=arguments.workers)
    return Options(settings, redo=arguments.redo, plain=arguments.quiet)

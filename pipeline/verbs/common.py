"""What the subcommands share: their result, how a verb is added to the command line, and how to run a stage."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO, TypeVar

from pairloom.errors import InputError
from pairloom.store import address, afar, scratch
from pairloom.store.mirror import standing_for
from pairloom.store.writing import only_writer
from pipeline.config import RunConfig
from pipeline.executor import Options
from pipeline.log import Log
from pipeline.params import Params

T = TypeVar("T")


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


def local(text: str) -> Path:
    """A path for argparse, which refuses an address by name."""
    return _named(address.local, text)


def shards_place(text: str) -> Path | str:
    """A folder of shards for argparse: a path, or an address that the loader reads."""
    place = _named(address.parse, text)
    return place if isinstance(place, Path) else str(place)


def place(text: str) -> Path | address.Address:
    """A path, or an address in a bucket, for argparse."""
    found = _named(address.parse, text)
    return found if isinstance(found, Path) else bucket_address(text)


def on_tables(look: Callable[[argparse.Namespace], Outcome], *names: str) -> Callable[[argparse.Namespace], Outcome]:
    """The command `look`, whose arguments of these names may be addresses: it gets folders that stand for them."""

    def command(arguments: argparse.Namespace) -> Outcome:
        with ExitStack() as stack:
            given, told = dict(vars(arguments)), dict[Path, address.Address]()

            def here(named: T | address.Address) -> T | Path:
                if not isinstance(named, address.Address):
                    return named
                folder = stack.enter_context(standing_for(named))
                told[folder] = named
                return folder

            for name in names:
                value = given[name]
                given[name] = [here(one) for one in value] if isinstance(value, list) else here(value)
            return _told(look(argparse.Namespace(**given)), told)

    return command


def on_dataset(
    run: Callable[[argparse.Namespace], Outcome], written: str, *read: str
) -> Callable[[argparse.Namespace], Outcome]:
    """The command `run` on a dataset: where these arguments are addresses it gets folders through which it works there.

    written: the argument that names what it writes; read: those that name what it only reads.
    """

    def command(arguments: argparse.Namespace) -> Outcome:
        with ExitStack() as stack:
            given, told = dict(vars(arguments)), dict[address.Address, Path]()
            for name in (written, *read):
                if isinstance(place := given[name], address.Address):
                    if place not in told:
                        told[place] = stack.enter_context(scratch.opened(place, writes=name == written))
                    given[name] = told[place]
            return _told(run(argparse.Namespace(**given)), {folder: place for place, folder in told.items()})

    return command


def on_folder(
    run: Callable[[argparse.Namespace], Outcome], written: str, *read: str
) -> Callable[[argparse.Namespace], Outcome]:
    """The command `run` that writes one folder: where that is an address it gets one through which it works there.

    written: the argument that names it. read: those that name tables, which may be at addresses, or None.
    """
    look = on_tables(run, *read)

    def command(arguments: argparse.Namespace) -> Outcome:
        place = getattr(arguments, written)
        if not isinstance(place, address.Address):
            return look(arguments)
        with scratch.opened(place.parent) as root, only_writer(root, place.name):
            folder = root / place.name
            afar.refresh(folder)
            return _told(look(argparse.Namespace(**{**vars(arguments), written: folder})), {folder: place})

    return command


def _told(found: Outcome, places: Mapping[Path, address.Address]) -> Outcome:
    """The outcome with addresses in the place of the folders that stand for them."""
    for folder, place in places.items():
        facts = json.loads(json.dumps(found.facts).replace(str(folder), str(place)))
        found = replace(found, facts=facts, text=found.text.replace(str(folder), str(place)))
    return found


def refuse_bucket(folder: Path, what: str) -> None:
    """Raise InputError where the folder stands for an address."""
    if scratch.behind(folder) is not None:
        raise InputError(f"{what} works on folders of this machine alone", str(folder), "name a folder, and push it")


def bucket_address(text: str) -> address.Address:
    """An address in a bucket, for argparse."""
    return _named(address.in_bucket, text)


def _named(parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except InputError as error:
        what, where, fix = error.args
        raise argparse.ArgumentTypeError(f"{where}: {what}: {fix}") from error


def bold(text: str, stream: TextIO) -> str:
    """The text so that it stands out where it is printed to, if that is a terminal."""
    return f"\033[1m{text}\033[0m" if stream.isatty() else text


def add_run_options(verb: argparse.ArgumentParser) -> None:
    add_params_options(verb)
    verb.add_argument(
        "--redo", action="store_true", help="replace what other settings made; without it the command stops"
    )
    verb.add_argument("--quiet", action="store_true", help="print progress as plain lines")
    verb.add_argument(
        "--log-json", type=local, metavar="FILE", help="append what happens to FILE, a JSON object a line"
    )
    verb.add_argument("--cluster", help="inline, local, or tcp://host:port of a Dask scheduler; overrides run.cluster")
    verb.add_argument("--workers", type=int, help="processes for the local cluster; overrides run.workers")


def add_params_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--params", type=local, help="settings (default: params.yaml, where there is one)")
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
    """Those of section regions that say which regions are kept. A detector's file may set them too."""
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
    return Options(settings, redo=arguments.redo, plain=arguments.quiet, log=Log(arguments.log_json))

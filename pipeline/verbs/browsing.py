"""`pairloom browse`: look at datasets in a browser on this machine."""

from __future__ import annotations

import argparse
import sys
import webbrowser
from pathlib import Path
from typing import Any

from pairloom.errors import InputError
from pairloom.store.folder import KEPT_BYTES
from pairloom.store.verify import folders_of
from pipeline.verbs.common import Outcome, add_verb, on_tables, place

PORT = 8765


def add(verbs: Any) -> None:
    verb = add_verb(
        verbs,
        "browse",
        on_tables(browse, "folders"),
        "look at datasets in a browser: pictures, what was left out, rules, differences",
        "pairloom browse data other/data",
    )
    verb.add_argument(
        "folders", type=place, nargs="+", metavar="DIR", help="a dataset, or several to compare; also addresses"
    )
    verb.add_argument("--port", type=int, default=PORT, help=f"on 127.0.0.1; 0 takes a free one (default: {PORT})")
    verb.add_argument("--open", action="store_true", help="open the address in this machine's browser")


def browse(arguments: argparse.Namespace) -> Outcome:
    """Serve the pages until Ctrl-C."""
    from inspection.browse.server import serve
    from pipeline.curating import CurateStage
    from pipeline.stage import flow

    def ready(address: str) -> None:
        print(f"{address}\nOnly this machine can open it. Ctrl-C ends it.", file=sys.stderr, flush=True)
        if arguments.open:
            webbrowser.open(address)

    for path in arguments.folders:
        _refuse_large(path)
    try:
        serve(arguments.folders, flow(), CurateStage(), arguments.port, ready)
    except KeyboardInterrupt:  # how it is meant to end
        return Outcome()
    return Outcome()


def _refuse_large(path: Path) -> None:
    """Raise InputError where a table of an address has more shards than are kept here: a query may read them all."""
    for folder in folders_of(path):
        if folder.origin is not None and (size := folder.shards.total("bytes")) > KEPT_BYTES:
            raise InputError(
                f"table {folder.table} has {size / 2**30:.0f} GiB, of an address {KEPT_BYTES >> 30} are kept here",
                where=str(folder.path),
                fix="draw some of it with `pairloom shards sample`, or `pairloom pull` it",
            )

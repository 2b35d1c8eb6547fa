"""`pairloom forget`: take rows out of a dataset for good."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from pairloom.errors import ConfigError
from pipeline.verbs.common import Outcome, add_verb, local, on_dataset, place


def add(verbs: Any) -> None:
    verb = add_verb(
        verbs,
        "forget",
        on_dataset(forget, "data"),
        "take pictures out of every table, shard and list of negatives, for good",
        "pairloom forget data --ids removed.txt",
    )
    verb.add_argument("data", metavar="DIR", type=place, help="folder or address of the dataset")
    verb.add_argument(
        "--ids",
        type=local,
        help="text file: an image_id in hex or an address a line; not needed to finish what was interrupted",
    )
    verb.add_argument("--quiet", action="store_true", help="print progress as plain lines")


def forget(arguments: argparse.Namespace) -> Outcome:
    """Rows out, and what has to be made again by hand."""
    from pipeline.forget import forget as take_out
    from pipeline.forget.noted import read as noted
    from pipeline.forget.wanted import Wanted, read

    if arguments.ids is None and noted(arguments.data) is None:
        raise ConfigError("nothing says what to forget", "pairloom forget", "name a file of ids with --ids")
    asked = read(arguments.ids) if arguments.ids else Wanted(frozenset(), frozenset())
    done = take_out(arguments.data, asked, arguments.quiet)
    lines = [f"{name}: {each.rows} rows taken out, {each.shards} shards written" for name, each in done.tables.items()]
    lines.append(f"forgotten: {done.images} pictures of {done.urls} addresses; later runs leave them out")
    lines += [f"stale: {one.out} ({one.how}) was made of the old shards; make it again" for one in done.stale]
    if done.removed:
        lines.append(f"removed, as it can be made again: {', '.join(done.removed)}")
    return Outcome(asdict(done), "\n".join(lines))

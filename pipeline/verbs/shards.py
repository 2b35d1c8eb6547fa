"""`pairloom verify` and `pairloom shards`: check folders of shards, and make new ones of them."""

from __future__ import annotations

import argparse
import errno
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pairloom.errors import StoreError
from pairloom.store import afar, cures
from pairloom.store import index as indices
from pairloom.store.folder import Entry, Folder, open_folder
from pairloom.store.verify import folders_of, verify
from pairloom.store.writing import write_counts, write_index
from pipeline import reshape
from pipeline.card import write_card
from pipeline.new_folder import Reshaped
from pipeline.progress import Progress
from pipeline.verbs.common import Outcome, add_verb, on_dataset, on_folder, on_tables, place


def add(verbs: Any) -> None:
    verb = add_verb(
        verbs,
        "verify",
        on_tables(check, "folder"),
        "check every byte of the shards against the manifest",
        "pairloom verify data/shards",
    )
    verb.add_argument("folder", type=place, help="a table, or a dataset with all its tables")
    verb.add_argument("--workers", type=int, help="files read in parallel (default: one for each core)")
    verb.add_argument("--quiet", action="store_true", help="print progress as plain lines")
    shards = verbs.add_parser("shards", help="work on folders of training shards", description="work on shards folders")
    ways = shards.add_subparsers(title="commands", required=True, metavar="COMMAND")
    one = add_verb(
        ways,
        "index",
        on_dataset(index, "folder"),
        "write the indices and the card again",
        "pairloom shards index data/shards",
    )
    one.add_argument("folder", type=place)
    for verb in (*_whole_shards(ways), *_chosen_rows(ways)):
        help = "the new folder, or its address; it must be empty or not exist"
        verb.add_argument("--out", type=place, required=True, help=help)


def _whole_shards(ways: Any) -> list[argparse.ArgumentParser]:
    """The verbs that put whole shards into other folders."""
    merge = add_verb(
        ways,
        "merge",
        on_folder(merged, "out", "folder"),
        "merge several folders into one",
        "pairloom shards merge a/shards b/shards --out c",
    )
    merge.add_argument("folder", type=place, nargs="+")
    merge.add_argument(
        "--keep-first",
        action="store_true",
        help="keep the first row of an image in several folders; else it is refused",
    )
    split = add_verb(
        ways,
        "split",
        on_folder(cut, "out", "folder"),
        "split one folder into several",
        "pairloom shards split data/shards --parts 4 --out c",
    )
    split.add_argument("folder", type=place)
    split.add_argument("--parts", type=int, required=True, help="folders to make: OUT/0, OUT/1, …; whole shards each")
    return [merge, split]


def _chosen_rows(ways: Any) -> list[argparse.ArgumentParser]:
    """The verbs that write some of the rows into new shards."""
    chosen = add_verb(
        ways, "filter", on_folder(filtered, "out", "folder"), "keep the rows for which an SQL condition holds",
        'pairloom shards filter data/shards --where "num_regions >= 10 AND licence = \'CC0-1.0\'" --out c',
    )  # fmt: skip
    chosen.add_argument("folder", type=place)
    chosen.add_argument("--where", required=True, help="a condition on the columns, as DuckDB understands it")
    drawn = add_verb(
        ways,
        "sample",
        on_folder(sampled, "out", "folder"),
        "draw a share of the rows",
        "pairloom shards sample data/shards --share 0.01 --out c",
    )
    drawn.add_argument("folder", type=place)
    drawn.add_argument("--share", type=float, required=True, help="of the images, 0 to 1")
    drawn.add_argument("--seed", type=int, default=0)
    return [chosen, drawn]


def check(arguments: argparse.Namespace) -> Outcome:
    """Exit code 1 if anything is wrong."""
    folders = folders_of(arguments.folder)
    total = sum(entry.bytes for folder in folders for entry in folder.shards)
    with Progress("verify", total, "bytes", arguments.quiet) as progress:
        problems = [problem for folder in folders for problem in verify(folder, progress.advance, arguments.workers)]
    shards = sum(len(folder.shards) for folder in folders)
    lines = [f"{problem.file}: {problem.what}\n  fix: {problem.fix}" for problem in problems]
    text = "\n".join([*lines, f"{shards} shards, {total:,} bytes: {len(problems) or 'nothing'} wrong"])
    facts = {"shards": shards, "bytes": total, "problems": [asdict(problem) for problem in problems]}
    return Outcome(facts, text, exit_code=1 if problems else 0)


def index(arguments: argparse.Namespace) -> Outcome:
    """Indices of all shards, and the card. What is there already and right is not written."""
    afar.refresh(arguments.folder)
    folder = open_folder(arguments.folder)
    if not folder.complete:
        raise StoreError("the folder is unfinished", str(folder.path), cures.resume(folder.path, folder.maker))
    lacking = [entry for entry in folder.shards if indices.read(_index_of(folder, entry), entry.sha256) is None]
    try:
        with Progress("index", sum(entry.rows for entry in lacking)) as progress:
            for entry in lacking:
                folder.here(entry.name)
                write_index(folder.path, entry.name, entry.sha256)
                progress.advance(entry.rows)
        write_counts(folder.path, folder.shards)
        write_card(folder)
    except StoreError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            fix = "copy the folder to where it can be written, or leave it: the loader makes a missing index in memory"
            raise StoreError(error.args[0], error.args[1], fix) from error
        raise
    facts = {"shards": len(folder.shards), "indexed": len(lacking)}
    return Outcome(facts, f"{len(folder.shards)} shards, {len(lacking)} of them indexed now")


def _index_of(folder: Folder, entry: Entry) -> Path:
    return indices.path_of(folder.file(entry.name))


def merged(arguments: argparse.Namespace) -> Outcome:
    return _told(reshape.merge(arguments.folder, arguments.out, arguments.keep_first))


def cut(arguments: argparse.Namespace) -> Outcome:
    return _told(*reshape.split(arguments.folder, arguments.parts, arguments.out))


def filtered(arguments: argparse.Namespace) -> Outcome:
    return _told(reshape.filter_rows(arguments.folder, arguments.where, arguments.out))


def sampled(arguments: argparse.Namespace) -> Outcome:
    return _told(reshape.sample(arguments.folder, arguments.share, arguments.seed, arguments.out))


def _told(*made: Reshaped) -> Outcome:
    lines = [f"{one.path}: {one.rows:,} rows in {one.shards} shards, {one.linked} of them unchanged" for one in made]
    lines += [f"{one.left_out:,} rows of images that came before are left out" for one in made if one.left_out]
    return Outcome({"folders": [asdict(one) | {"path": str(one.path)} for one in made]}, "\n".join(lines))

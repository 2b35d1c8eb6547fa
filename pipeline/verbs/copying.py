"""`pairloom push` and `pairloom pull`: finished tables between a folder of this machine and an address."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pairloom.errors import InputError, StoreError
from pairloom.store import scratch
from pairloom.store.bucket import PATIENCE_S, Bucket
from pairloom.store.cures import QUARANTINE
from pairloom.store.lease import leased
from pairloom.store.pulling import pull
from pairloom.store.pushing import JOBS, Copied, finished_below, is_pushed, push
from pairloom.store.remote_tables import described, published, tables_below
from pairloom.store.scratch import bucket_at
from pairloom.store.writing import only_writer
from pipeline.progress import Progress
from pipeline.verbs.common import Outcome, add_verb, bucket_address, local


def add(verbs: Any) -> None:
    verb = add_verb(
        verbs,
        "push",
        pushed,
        "copy finished tables to a bucket (the same command resumes)",
        "pairloom push data/shards s3://bucket/data/shards",
    )
    verb.add_argument("folder", type=local, help="a table, or a dataset with all its tables")
    verb.add_argument("address", type=bucket_address, help="s3://, gs:// or az://, the bucket, and a folder in it")
    _add_options(verb)
    verb = add_verb(
        verbs,
        "pull",
        pulled,
        "copy finished tables from a bucket (the same command resumes)",
        "pairloom pull s3://bucket/data/shards data/shards",
    )
    verb.add_argument("address", type=bucket_address, help="of a table, or of a dataset with all its tables")
    verb.add_argument("folder", type=local, help="where it is to lie; a dataset's tables lie below it as they do there")
    _add_options(verb)


def _add_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--jobs", type=int, default=JOBS, help=f"files on their way at once (default: {JOBS})")
    verb.add_argument(
        "--patience", type=float, default=PATIENCE_S, help=f"seconds that a server may fail (default: {PATIENCE_S:g})"
    )
    verb.add_argument("--quiet", action="store_true", help="print progress as plain lines")


def pushed(arguments: argparse.Namespace) -> Outcome:
    """Every finished table at or below the folder."""
    folders = finished_below(arguments.folder)
    total = sum(folder.shards.total("bytes") for folder in folders)
    done = []
    with Progress("push", total, "bytes", arguments.quiet) as progress:
        for folder in folders:
            below = str(folder.path.relative_to(arguments.folder))
            address = arguments.address if below == "." else arguments.address / below
            table = Bucket(address, arguments.patience)
            with contextlib.nullcontext() if is_pushed(folder, table) else _leased(table, folder.header.stage):
                done.append(push(folder, table, progress.advance, max(arguments.jobs, 1)))
    return _told(done)


@contextlib.contextmanager
def _leased(table: Bucket, stage: str) -> Iterator[None]:
    """The lease by which runs in the bucket write this table, or none where the bucket has none to give."""
    dataset = table.address.parent if table.address.path else table.address
    if dataset.name == QUARANTINE and dataset.path:
        dataset = dataset.parent
    bucket = bucket_at(dataset, table.patience_s)
    try:
        scratch.probe(bucket)
    except InputError as error:
        print(f"push: no lease is taken, so let nobody else write there: {error.args[0]}", file=sys.stderr, flush=True)
        yield
    else:
        with leased(bucket, stage):
            yield


def pulled(arguments: argparse.Namespace) -> Outcome:
    """Every finished table at or below the address."""
    found = list(tables_below(arguments.address, arguments.patience))
    if not found:
        fix = "name the address of a table or of a dataset; a push that has not ended leaves no table"
        raise StoreError("there is no finished table here or below", str(arguments.address), fix)
    total = sum(described(there).shards.total("bytes") for _, table in found if (there := published(table)))
    done = []
    with Progress("pull", total, "bytes", arguments.quiet) as progress:
        for below, table in found:
            path: Path = (arguments.folder / below).absolute()
            with only_writer(path.parent, path.name):  # as the stage that makes it holds it
                done.append(pull(table, path, progress.advance, max(arguments.jobs, 1)))
    return _told(done)


def _told(done: Sequence[Copied]) -> Outcome:
    lines = [f"{one.table}: {one.shards} shards, {one.bytes:,} bytes; {one.sent or 'no'} files copied" for one in done]
    return Outcome({"tables": [asdict(one) for one in done]}, "\n".join(lines))

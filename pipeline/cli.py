"""The command `pairloom`: parse the line, call the command, print its result, turn errors into exit codes."""

from __future__ import annotations

import argparse
import errno
import json
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from types import FrameType

from pairloom.errors import PairloomError, StoreError
from pairloom.machine import of_the_machine
from pipeline.extras import missing_extra
from pipeline.memory import keep_freed_memory
from pipeline.verbs import (
    browsing,
    checkpoints,
    copying,
    dataset,
    detectors,
    evaluating,
    exporting,
    extracting,
    forgetting,
    importing,
    looking,
    negatives,
    pairs,
    retrying,
    shards,
    starting,
    texts,
    training,
    tuning,
)
from pipeline.verbs.common import Outcome

EXAMPLES = """examples:
  pairloom init my-data --urls my.csv           a data project of your own, for `dvc repro`
  pairloom run --urls my.csv --out my-data      every stage on your own list
  pairloom download my.csv --out my-data        the pictures of a list, nothing else
  pairloom import /data/coco --out coco         a data set on disk or in a bucket, by its format
  pairloom retry my-data --reason dns,timeout   fetch again what failed for these reasons
  pairloom curate my-data --out my-data --profile align    clean captions, rules by name
  pairloom stage regions --redo                 one stage, shards of other settings made again
  pairloom extract photos --out photo-regions   the regions of a folder of pictures
  pairloom import obj36.tsv --as lxmert-tsv --captions captions.json --out coco --shards    features, no pictures
  pairloom export data/shards --as uniter-lmdb --out uniter    what other code trains from
  pairloom train --recipe uniter --shards data/shards    a recipe on finished shards
  pairloom evaluate models/clip --task retrieval --shards data/shards    a checkpoint on the tests of papers
  pairloom finetune models/uniter --task vqa --shards data/shards    a checkpoint with the head of a task
  pairloom push data s3://bucket/data           finished tables to a bucket. `pull` brings them back
  pairloom negatives captions.csv --out mined   hard negatives of plain captions
  pairloom texts news.txt --out data/texts      texts without images, for rows of text alone
  pairloom info data/regions                    what a table holds and what made it
  pairloom lint data                            every check. Exits 1 if anything is wrong
  pairloom preview data/regions --row 3f9a      one row, with a picture of its boxes
  pairloom browse data                          pictures, what was left out and why, in a browser
  pairloom diff data other/data                 what differs between two datasets. Exits 1 if anything does
  pairloom forget data --ids removed.txt        pictures out of every table, for good
  pairloom doctor                               versions, devices, disk, and what is missing
Every command takes --json: one machine-readable result on standard output, messages on standard error."""


# What a folder that a person named can be: a file, read-only, of another user, on a full disk.
OF_FOLDERS = {
    *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.EACCES, errno.EPERM),
    *(errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Exit code 0: all done; 1: something is wrong; 2: wrong usage; 130, 143: interrupted."""
    arguments = parser().parse_args(argv)
    keep_freed_memory()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return _run(arguments)
    except BrokenPipeError:  # the reader of our output has gone, such as `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(arguments: argparse.Namespace) -> int:
    """The exit code. What was found, or what is wrong, is printed. Raises BrokenPipeError if nobody reads it."""
    try:
        result = arguments.command(arguments)
        _print(result, arguments.json)
        sys.stdout.flush()
    except PairloomError as error:
        _fail(error, arguments.json)
        return 1
    except ModuleNotFoundError as error:
        missing = missing_extra(error, arguments.verb)
        if missing is None:
            raise
        _fail(missing, arguments.json)
        return 1
    except (OSError, MemoryError, RuntimeError) as error:
        ours = _of_folder(error) or of_the_machine(error, f"pairloom {arguments.verb}")
        if ours is None:
            raise
        _fail(ours, arguments.json)
        return 1
    except KeyboardInterrupt:
        print("interrupted: finished shards are kept; the same command resumes from here", file=sys.stderr)
        return 130
    return int(result.exit_code)


def _of_folder(error: BaseException) -> StoreError | None:
    """What the operating system says of a folder that a person named."""
    if not isinstance(error, OSError) or error.errno not in OF_FOLDERS:
        return None
    fix = "name a folder that can be read and written, on a disk with free space"
    return StoreError(f"{error.strerror}", str(error.filename or "a file"), fix)


def _terminate(number: int, frame: FrameType | None) -> None:
    print("terminated: finished shards are kept; the same command resumes from here", file=sys.stderr)
    raise SystemExit(128 + number)


def _fail(error: PairloomError, as_json: bool) -> None:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    if as_json:
        what, where, fix = error.args[:3]
        print(json.dumps({"error": type(error).__name__, "what": what, "where": where, "fix": fix}), flush=True)


def _print(result: Outcome, as_json: bool) -> None:
    if as_json and result.facts:
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
    verbs = root.add_subparsers(title="commands", required=True, metavar="COMMAND", dest="verb")
    root.add_argument("--version", action="version", version=f"pairloom {version('pairloom')}")
    for group in (
        starting,
        dataset,
        importing,
        pairs,
        retrying,
        forgetting,
        detectors,
        extracting,
        exporting,
        negatives,
        shards,
        texts,
        copying,
        training,
        evaluating,
        tuning,
        checkpoints,
        looking,
        browsing,
    ):
        group.add(verbs)
    return root


if __name__ == "__main__":
    sys.exit(main())

"""`pairloom extract`: a folder of pictures to a regions table, without a URL list or params.yaml."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from formats.names import as_text
from pairloom.errors import ConfigError, RunError
from pairloom.typed import build
from pipeline.cards import one_thread_a_worker
from pipeline.config import RunConfig
from pipeline.executor import Options, run_stage
from pipeline.progress import Progress
from pipeline.verbs.common import (
    Outcome,
    add_selection_options,
    add_verb,
    local,
    on_dataset,
    place,
    refuse_bucket,
    selection_options,
)
from pipeline.verbs.dataset import describe, facts

if TYPE_CHECKING:  # pyarrow's tables take a moment to import, and `--help` should not wait for it
    from stages.folder.files import Found

ROWS_PER_SHARD = 64
SETTINGS = ("detector", "checkpoint", "precision", "feature_dtype", "device", "batch")


def add(verbs: Any) -> None:
    verb = add_verb(
        verbs,
        "extract",
        on_dataset(extract, "out"),
        "extract the regions of a folder of pictures",
        "pairloom extract photos --detector starter --out photo-regions --format lxmert-tsv",
    )
    verb.add_argument("folder", type=local, help="folder of pictures; all folders below it are read too")
    verb.add_argument(
        "--out",
        type=place,
        required=True,
        help="folder or address for the table regions; the same command resumes there",
    )
    verb.add_argument("--detector", default="starter", help="a name in stages/regions/detectors (default: starter)")
    verb.add_argument("--checkpoint", help="the detector's weights (default: those that were added for it)")
    add_selection_options(verb)
    verb.add_argument(
        "--faithful", action="store_true", help="reproduce the published selection exactly, with its oddities"
    )
    verb.add_argument("--class-probs", help="class probabilities stored for each region: a number, full or none")
    verb.add_argument("--precision", choices=("fp32", "tf32", "bf16", "fp16"), default="fp32")
    verb.add_argument("--feature-dtype", choices=("float16", "float32"), default="float16")
    verb.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 (default: cuda where there is one)")
    verb.add_argument("--batch", type=int, help="pictures of one size at once (default: 1 on a CPU, 4 on a GPU)")
    verb.add_argument(
        "--format", choices=("parquet", "lxmert-tsv"), default="parquet", help="lxmert-tsv also writes OUT/regions.tsv"
    )
    verb.add_argument(
        "--redo", action="store_true", help="replace what other settings made; without it the command stops"
    )
    verb.add_argument("--quiet", action="store_true", help="print progress as plain lines")
    verb.add_argument("--cluster", default="local", help="inline, local, or tcp://host:port of a Dask scheduler")
    verb.add_argument(
        "--workers", type=int, help="processes (default: one for each core); with several GPUs set one for each"
    )


def extract(arguments: argparse.Namespace) -> Outcome:
    """List the folder, run the stage on what is new, and write the format asked for."""
    one_thread_a_worker()  # before torch starts its threads
    from formats.lxmert_tsv import refuse_clashes, write
    from stages.folder import regions as stage
    from stages.folder.files import find

    section = {name: getattr(arguments, name) for name in SETTINGS if getattr(arguments, name) is not None}
    section |= selection_options(arguments)
    if arguments.class_probs is not None:
        section["class_probs"] = (
            int(arguments.class_probs) if arguments.class_probs.isdigit() else arguments.class_probs
        )
    section |= {"faithful": arguments.faithful, "folder": str(arguments.folder.resolve())}
    config = build(stage.Config, section, "the command line")
    run = build(RunConfig, {"cluster": arguments.cluster, "workers": arguments.workers}, "the command line")
    refuse_unwritable(arguments.out)
    if arguments.format != "parquet":
        refuse_bucket(arguments.out, f"--format {arguments.format}")
    stage.resources(config)  # before a large folder is read, what is missing is named
    found = find(arguments.folder, arguments.out)
    if arguments.format == "lxmert-tsv":
        refuse_clashes(found.sources, as_text(str(arguments.folder)))
    write_files(found, arguments.out, arguments.quiet)
    done = run_stage("stages.folder.regions", config, arguments.out, Options(run, arguments.redo, arguments.quiet))
    if not done.counts.rows_out:
        raise RunError(
            f"no picture of {done.counts.rows_in} has regions: {dict(done.counts.rejected)}",
            where=str(arguments.out / "quarantine" / "regions"),
            fix="see why with `pairloom preview`; are these pictures, and is this the detector's checkpoint?",
        )
    made = {"regions": arguments.out / "regions"}
    if arguments.format == "lxmert-tsv":
        made["tsv"] = arguments.out / "regions.tsv"
        write(made["regions"], made["tsv"])
    places = {name: as_text(str(path)) for name, path in made.items()}
    lines = [describe(done), *describe_ignored(found.ignored), *(f"{name}: {path}" for name, path in places.items())]
    return Outcome(facts(done) | places | {"ignored": dict(found.ignored)}, "\n".join(lines))


def refuse_unwritable(out: Path) -> None:
    """Raise ConfigError for a folder whose name Arrow cannot open. Pictures may lie in such a one, tables may not."""
    try:
        str(out.resolve()).encode()
    except UnicodeEncodeError as error:
        name = as_text(str(out.resolve()))
        raise ConfigError("the folder's name is not UTF-8", f"--out {name}", "name another folder") from error


def describe_ignored(ignored: Mapping[str, int]) -> list[str]:
    """A line on the files that are no pictures by their names, if there are any."""
    kinds = ", ".join(f"{kind} {count}" for kind, count in ignored.items())
    count = sum(ignored.values())
    return [f"{count} other file{'s' if count > 1 else ''} ignored ({kinds})"] if ignored else []


def write_files(found: Found, out: Path, quiet: bool) -> None:
    """Bring table `files` up to date: new pictures are appended, a changed one remakes its shard and those after."""
    from pairloom.store.afar import refresh
    from pairloom.store.folder import is_table, open_folder
    from pipeline.listing import write_table
    from schemas.files import FILES
    from stages.folder.files import list_pictures

    refresh(out / FILES.name)
    known: list[str] = []
    if is_table(out / FILES.name):
        tables = open_folder(out / FILES.name).tables(["source"])
        known = [source for _, table in tables for source in table["source"].to_pylist()]
    with Progress("files", 0, "files", plain=quiet) as progress:

        def read(done: int, total: int) -> None:
            progress.total = total
            progress.advance(1)

        rows = list_pictures(found, known, read)
    write_table(rows, FILES, out, ROWS_PER_SHARD)

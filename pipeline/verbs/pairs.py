"""`pairloom download` and `curate`: pairs by themselves, without the rest of the pipeline."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from pairloom.errors import ConfigError, StoreError
from pairloom.store import afar
from pairloom.store.folder import is_table
from pipeline.cards import one_thread_a_worker
from pipeline.config import RunConfig
from pipeline.executor import Done, Options, run_stage
from pipeline.origins import carry, note
from pipeline.params import Params, check_sections, read_params, with_settings
from pipeline.stage import load
from pipeline.task import Places
from pipeline.verbs.common import Outcome, add_params_options, add_verb, on_dataset, place
from pipeline.verbs.dataset import describe, facts

ROWS_PER_SHARD = 1000
EARLIER = "pairs"  # what pairloom 0.1.0 called the table that `download` wrote


def add(verbs: Any) -> None:
    _add_download(verbs)
    _add_curate(verbs)


def _add_download(verbs: Any) -> None:
    verb = add_verb(
        verbs,
        "download",
        on_dataset(download, "out"),
        "fetch the pictures of a list of URLs",
        "pairloom download cc12m.tsv --columns url,caption --no-quotes --out cc12m --contact me@example.org",
    )
    verb.add_argument("list", metavar="LIST", help="csv, tsv, txt, json, jsonl or parquet, a folder, or an fsspec path")
    verb.add_argument(
        "--out", type=place, required=True, help="folder or address of the dataset: urls, download, quarantine"
    )
    verb.add_argument(
        "--allow-host", action="append", default=[], metavar="HOST[:PORT]", help="this host may have a local address"
    )
    verb.add_argument("--contact", help="address for questions about these requests; part of the User-Agent")
    verb.add_argument("--url-col", help="the list's column of URLs (default: url)")
    add_caption_options(verb)
    verb.add_argument("--columns", help="comma-separated column names of a csv or tsv list without a header line")
    verb.add_argument("--no-quotes", action="store_true", help='a " in a csv or tsv list is a letter like any other')
    verb.add_argument(
        "--source",
        action="append",
        default=[],
        metavar="NAME=PLACE",
        help="folder or address of pictures that rows name as NAME:PATH",
    )
    verb.add_argument("--rows-per-shard", type=int, help=f"rows of each shard (default: {ROWS_PER_SHARD})")
    verb.add_argument(
        "--resize", choices=("none", "longest", "shortest", "area"), help="the side that --max-side limits"
    )
    verb.add_argument("--max-side", type=int, help="pixels (default: 1024)")
    verb.add_argument(
        "--img2dataset-config",
        metavar="FILE",
        help="fetch with img2dataset, by its own settings in this file; docs/how-to/from-img2dataset.md has the cost",
    )
    add_common(verb)


def _add_curate(verbs: Any) -> None:
    verb = add_verb(
        verbs,
        "curate",
        on_dataset(curate, "out", "folder"),
        "clean captions and leave out pairs by the rules of a profile",
        "pairloom curate cc12m --out cc12m --profile align",
    )
    verb.add_argument("folder", type=place, help="the --out of `pairloom download`, or a table of pairs")
    verb.add_argument(
        "--out",
        type=place,
        required=True,
        help="folder or address of the dataset, which may be the same",
    )
    verb.add_argument("--profile", help="rules by name: stages/curate/profiles (default: none)")
    add_common(verb)


def add_caption_options(verb: argparse.ArgumentParser) -> None:
    """--caption-col and --kinds."""
    verb.add_argument("--caption-col", help="comma-separated columns of captions, or none (default: caption)")
    verb.add_argument("--kinds", help="what each of these is, comma-separated: original, alt, synthetic, region, …")


def add_common(verb: argparse.ArgumentParser) -> None:
    add_params_options(verb)
    verb.add_argument(
        "--redo", action="store_true", help="replace what other settings made; without it the command stops"
    )
    verb.add_argument("--quiet", action="store_true", help="print progress as plain lines")
    verb.add_argument("--cluster", default="local", help="inline, local (the default), or tcp://host:port of Dask")
    verb.add_argument("--workers", type=int, help="processes of the local cluster (default: one for each core)")


def download(arguments: argparse.Namespace) -> Outcome:
    """The list into OUT/urls, what came through into OUT/download, the rest into OUT/quarantine."""
    from pipeline.listing import write_list
    from stages import sample

    one_thread_a_worker()
    params, options = settings_of(arguments)
    listed = {"rows_per_shard": ROWS_PER_SHARD, **params.section("sample"), "urls": arguments.list}
    listed |= given(arguments, url_col="url_column", rows_per_shard="rows_per_shard")
    if arguments.columns:
        listed["columns"] = arguments.columns.split(",")
    if arguments.no_quotes:
        listed["quotes"] = False
    if arguments.source:
        listed["sources"] = {**listed.get("sources", {}), **dict(map(source_of, arguments.source))}
    if arguments.caption_col:
        listed["caption_column"] = None if arguments.caption_col == "none" else arguments.caption_col.split(",")
    if arguments.kinds:
        listed["kinds"] = arguments.kinds.split(",")
    section = params.section("download") | given(arguments, contact="contact", resize="resize", max_side="max_side")
    if arguments.img2dataset_config:
        section |= {"engine": "img2dataset", "img2dataset_config": arguments.img2dataset_config}
    section["allow_hosts"] = [*section.get("allow_hosts", []), *arguments.allow_host]
    config = Params({"sample": listed, "download": section}, params.file).of_stage("download")
    note(arguments.out, listed)
    if config.contact is None:
        print("no --contact: owners of servers do not know whom to write to", file=sys.stderr)
    settings = Params({"sample": listed}, params.file).build(sample.Config, "sample")
    parts = sample.parts(settings, arguments.out / ".sample")
    write_list(parts, settings, arguments.out, options.redo, plain=options.plain)
    return outcome_of(run_stage("download", config, arguments.out, options, downloaded(arguments.out)), arguments.out)


def source_of(text: str) -> tuple[str, str]:
    """NAME=PLACE as the two."""
    name, equals, place = text.partition("=")
    if not (name and equals and place):
        raise ConfigError(f"the source is {text!r}", "--source", "write NAME=PLACE, such as coco=/data/coco")
    return name, place


def curate(arguments: argparse.Namespace) -> Outcome:
    """The pairs of a folder into OUT/curate, what the rules leave out into OUT/quarantine/curate."""
    one_thread_a_worker()
    params, options = settings_of(arguments)
    config = params.with_section("curate", **given(arguments, profile="profile")).of_stage("curate")
    places = (arguments.folder, arguments.folder / "download", arguments.folder / EARLIER)
    for path in places:
        afar.refresh(path)
    source = next((path for path in places if is_table(path)), None)
    if source is None:
        raise StoreError(
            "there is no table of pairs here", str(arguments.folder), "name the --out of `pairloom download`"
        )
    out = arguments.out
    carry(arguments.folder, out)
    target = Places({"download": source}, out / "curate", out / "quarantine" / "curate", out)
    return outcome_of(run_stage("curate", config, out, options, target), out)


def downloaded(out: Path) -> Places:
    """Where the tables of a download lie: as in any dataset, or as pairloom 0.1.0 put them."""
    if is_table(out / EARLIER):
        return Places({"urls": out / "urls"}, out / EARLIER, out / "quarantine", out)
    return Places.of(load("download"), None, out)


def settings_of(arguments: argparse.Namespace) -> tuple[Params, Options]:
    """What --params and --set say. A params.yaml that only lies there is of another dataset."""
    params = read_params(arguments.params, arguments.settings) if arguments.params else Params(file="the command line")
    params = params if arguments.params else with_settings(params, arguments.settings)
    check_sections(params)
    run = RunConfig(cluster=arguments.cluster, workers=arguments.workers)
    return params, Options(run, redo=arguments.redo, plain=arguments.quiet)


def given(arguments: argparse.Namespace, **names: str) -> dict[str, Any]:
    """Options that were given, by the setting that they stand for."""
    values = {setting: getattr(arguments, option) for option, setting in names.items()}
    return {setting: value for setting, value in values.items() if value is not None}


def outcome_of(done: Done, out: Path) -> Outcome:
    return Outcome(facts(done), f"{describe(done)}\npairs: {out / done.stage}")

"""`pairloom import`: data sets that people already have, in by the same stages as a list of URLs."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from formats.features import names as layouts
from pipeline.cards import one_thread_a_worker
from pipeline.executor import run_stage
from pipeline.origins import note
from pipeline.params import Params
from pipeline.verbs import features
from pipeline.verbs.common import Outcome, add_verb, on_dataset, place
from pipeline.verbs.pairs import (
    ROWS_PER_SHARD,
    add_caption_options,
    add_common,
    downloaded,
    given,
    outcome_of,
    settings_of,
)


def add(verbs: Any) -> None:
    verb = add_verb(
        verbs,
        "import",
        on_dataset(bring, "out"),
        "bring in a data set that is on disk or in a bucket, by its format",
        "pairloom import /data/coco --out coco",
    )
    verb.add_argument("data", metavar="SOURCE", help="a folder, a file, or an address such as s3://bucket/folder")
    verb.add_argument(
        "--out", type=place, required=True, help="folder or address of the dataset: urls, download, quarantine"
    )
    verb.add_argument(
        "--as",
        dest="format",
        metavar="FORMAT",
        help="coco, folder, hf, img2dataset, webdataset, … (docs/how-to/import.md), found by looking where left out; "
        "or a layout of features (docs/reference/formats.md)",
    )
    verb.add_argument("--name", help="what rows call the source of the pictures (default: the format)")
    verb.add_argument("--pictures", metavar="PLACE", help="where the pictures lie, if not in SOURCE")
    verb.add_argument("--url-col", help="the column of pictures or paths, where there are several")
    add_caption_options(verb)
    verb.add_argument("--rows-per-shard", type=int, help=f"rows of each shard (default: {ROWS_PER_SHARD})")
    verb.add_argument(
        "--resize", choices=("none", "longest", "shortest", "area"), help="the side that --max-side limits"
    )
    verb.add_argument("--max-side", type=int, help="pixels (default: 1024)")
    features.add_options(verb)
    add_common(verb)


def bring(arguments: argparse.Namespace) -> Outcome:
    """The data set's rows into OUT/urls, its pictures into OUT/download, the rest into OUT/quarantine."""
    if arguments.format in layouts():
        return features.take(arguments)
    from pipeline.listing import write_list
    from stages import sample

    one_thread_a_worker()
    params, options = settings_of(arguments)
    listed = list_settings(arguments, params.section("sample"))
    section = params.section("download") | given(arguments, resize="resize", max_side="max_side")
    both = Params({"sample": listed, "download": section}, params.file)
    config, settings = both.of_stage("download"), both.build(sample.Config, "sample")
    note(arguments.out, listed)
    parts = sample.parts(settings, arguments.out / "sample")
    write_list(parts, settings, arguments.out, options.redo, plain=options.plain)
    return outcome_of(run_stage("download", config, arguments.out, options, downloaded(arguments.out)), arguments.out)


def list_settings(arguments: argparse.Namespace, section: dict[str, Any]) -> dict[str, Any]:
    """Section `sample` for this command line. The format is found by looking if nobody names it."""
    from stages import sample

    listed = {"rows_per_shard": ROWS_PER_SHARD, **section, "urls": arguments.data}
    listed |= given(arguments, url_col="url_column", rows_per_shard="rows_per_shard")
    if arguments.caption_col:
        listed["caption_column"] = None if arguments.caption_col == "none" else arguments.caption_col.split(",")
    if arguments.kinds:
        listed["kinds"] = arguments.kinds.split(",")
    listed["format"] = arguments.format or listed.get("format") or look(arguments.data)
    if arguments.name or arguments.pictures:
        usual = dict(Params({"sample": listed}).build(sample.Config, "sample").places())
        place = arguments.pictures or next(iter(usual.values()))
        listed["sources"] = {arguments.name or listed["format"]: place}
    return listed


def look(place: str) -> str:
    """What the data set is, said aloud with the reason."""
    from formats import datasets
    from formats.datasets.opened import Data
    from formats.pictures import open_root

    found, why = datasets.detect(Data(place, "", open_root(place)))
    print(f"import: {place} is taken as {found}, since {why} (--as names another)", file=sys.stderr, flush=True)
    return found

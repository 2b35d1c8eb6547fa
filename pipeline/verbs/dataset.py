"""`pairloom run` and `pairloom stage`: one stage or all of them on a dataset folder."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from inspection.info import size
from inspection.starter import starter_notes
from pairloom.layout import left_out_columns
from pairloom.store import cures
from pairloom.store.folder import ASIDE, open_folder
from pairloom.store.mirror import leave
from pipeline import project
from pipeline.cards import one_thread_a_worker
from pipeline.executor import Done, Options, run_stage
from pipeline.metrics import of_stage, write
from pipeline.origins import note
from pipeline.params import Params, check_resources, check_sections, check_settings, read_params, with_settings
from pipeline.stage import asking, load, names, wanted
from pipeline.verbs.common import Outcome, add_run_options, add_verb, bold, local, on_dataset, place, run_options
from stages.contract import Counts

NOT_ASKED = "not-asked.txt"  # where a table that no setting asks for would have its manifest


def add(verbs: Any) -> None:
    verb = add_verb(
        verbs,
        "run",
        on_dataset(run, "out"),
        "run every stage, from a list of URLs to shards",
        "pairloom run --urls my.csv --out my-data",
    )
    verb.add_argument(
        "--urls",
        help="csv, tsv, txt, json, jsonl or parquet list, a folder, an fsspec path, or demo "
        "(default: sample.urls of params.yaml)",
    )
    verb.add_argument(
        "--out", type=place, default=Path("data"), help="folder or address of the dataset (default: data)"
    )
    add_run_options(verb)
    verb = add_verb(
        verbs, "stage", on_dataset(stage, "data"), "run one stage on its inputs", "pairloom stage tags --data data"
    )
    verb.add_argument("name", help=f"sample, or one of {', '.join(names())}")
    verb.add_argument(
        "--data", type=place, default=Path("data"), help="folder or address of the dataset (default: data)"
    )
    verb.add_argument("--metrics", type=local, default=Path("metrics"), help="folder for the counts (default: metrics)")
    verb.add_argument(
        "--pointers",
        type=local,
        metavar="DIR",
        help="of a dataset at an address: leave its tables' manifests below DIR, where DVC looks at them",
    )
    verb.add_argument(
        "--if-asked",
        action="store_true",
        help="only where settings of other stages ask for this table",
    )
    add_run_options(verb)


def run(arguments: argparse.Namespace) -> Outcome:
    """Every stage on one dataset folder, in order."""
    params = params_of_run(arguments.params, arguments.urls, arguments.out, arguments.settings)
    check_sections(params)
    check_settings(params)
    metrics = arguments.out / "metrics"
    done = [_told("sample", params, arguments, metrics)]
    check_resources(params)  # a demo's questions are drawn by now
    for name in wanted(params.of_stage):
        done.append(_told(name, params, arguments, metrics))
    return Outcome({"stages": [facts(one) for one in done]}, closing(arguments.out))


def _told(name: str, params: Params, arguments: argparse.Namespace, metrics: Path) -> Done:
    """A stage of a whole run, with its line as soon as it ends."""
    done = _one(name, params, arguments.out, arguments, metrics)
    if not arguments.json:
        print(describe(done), flush=True)
    return done


def closing(data: Path) -> str:
    """What a whole run ends with: what came out, where it is, what of it is only a demo, and what to do next."""
    shards = open_folder(data / "shards")
    splits: Counter[str] = Counter()
    for entry in shards.shards:
        splits[entry.name.rpartition("-")[0]] += entry.rows
    rows = ", ".join(f"{split} {count:,}" for split, count in splits.items())
    bare = any("features" in left_out_columns(shards.metadata(entry.name)) for entry in shards.shards[:1])
    lines = [
        f"{shards.rows:,} images ({rows}) in {len(shards.shards):,} shards of {size(shards.shards.total('bytes'))}",
        f"shards: {data / 'shards'}",
        *starter_notes([shards]),
        f"next: `pairloom browse {data}` shows them,",
        f"      `pairloom train --recipe {'clip' if bare else 'uniter'} --shards {data / 'shards'}` trains on them",
    ]
    return "\n".join(lines)


def params_of_run(file: Path | None, urls: str | None, out: Path, settings: Sequence[str] = ()) -> Params:
    """The settings of a whole run: those of the file, but a list of one's own does not take the demo's.

    A demo's pictures are served from where this run draws them.
    """
    from stages import sample

    params = read_params(file, settings)
    demos = sample.is_demo(params.section("sample").get("urls", ""))
    if urls and demos and not sample.is_demo(urls) and file is None:
        print(
            "params.yaml holds the demo's settings: your list takes the defaults (--params names others)",
            file=sys.stderr,
        )
        run_alone = Params({"run": params.section("run")}, params.file)
        params = with_settings(run_alone, settings)
    if urls:
        params = params.with_section("sample", urls=urls)
    named = params.section("sample").get("urls", sample.Config().urls)
    if sample.is_demo(named) and params.section("download").get("serve") in (None, "data/sample"):
        params = params.with_section("download", serve=str(out / "sample"))
    return params


def stage(arguments: argparse.Namespace) -> Outcome:
    """One stage. What `dvc repro` calls."""
    if project.is_outdated(Path(), arguments.name):
        text = f"versions.yaml notes another version of {arguments.name} than is installed: "
        print(text + "after `pairloom init --refresh .` DVC reruns what an upgrade changes", file=sys.stderr)
    params = read_params(arguments.params, arguments.settings)
    _check_before(arguments.name, params)
    seen = arguments.pointers or arguments.data
    if arguments.if_asked:
        places = (seen / arguments.name, seen / "quarantine" / arguments.name)
        if arguments.name not in wanted(params.of_stage):
            return _not_asked(arguments.name, places, arguments.metrics)
        for folder in places:
            (folder / ASIDE / NOT_ASKED).unlink(missing_ok=True)
    done = _one(arguments.name, params, arguments.data, arguments, arguments.metrics)
    if arguments.pointers:
        for table in (cures.FOLDERS.get(arguments.name, arguments.name), f"quarantine/{arguments.name}"):
            leave(arguments.pointers / table, arguments.data / table)
        (arguments.pointers / arguments.name).mkdir(exist_ok=True)  # an output of the stage `sample` that may be empty
    return Outcome(facts(done), describe(done))


def _check_before(name: str, params: Params) -> None:
    """What a later stage would refuse is refused by the first ones, before days of work."""
    check_sections(params, own=name.rpartition(".")[2])
    if name == "sample":
        check_settings(params)
    elif not set(load(name).always) & set(names()):  # the first stage after the list
        check_resources(params)


def _not_asked(name: str, places: Iterable[Path], metrics: Path) -> Outcome:
    """The outputs that DVC expects of a stage, without a table. One that is there from before stays."""
    ways = [_way(setting, name) for setting in asking(name)]
    text = f"{name}: not asked for; {' or '.join(ways)} in params.yaml asks for it"
    for folder in places:
        (folder / ASIDE).mkdir(parents=True, exist_ok=True)
        (folder / ASIDE / NOT_ASKED).write_text(text + "\n", encoding="utf-8")  # DVC warns of empty folders
    none = {"stage": name, "asked": False}
    write(metrics, name, of_stage(Counts(0, 0, {}), 0, {}), none)
    return Outcome(none, text)


def _way(setting: str, table: str) -> str:
    """How a setting that `asking` names is said."""
    if setting == f"shards.{table}":
        return f"`{setting}: true`"
    return f"`{setting}`" if "." in setting else f"section {setting}"


def _one(name: str, params: Params, data: Path, arguments: argparse.Namespace, metrics: Path) -> Done:
    one_thread_a_worker()  # before a stage loads torch or numba
    options = run_options(params, arguments)
    options.log.write("stage-started", stage=name)
    done = _sample(params, data, options) if name == "sample" else _stage(name, params, data, options)
    found = facts(done)
    options.log.write("stage-done", **found)
    write(metrics, name, of_stage(done.counts, done.shards, done.summary), found)
    return done


def _sample(params: Params, data: Path, options: Options) -> Done:
    from pipeline.listing import write_list
    from pipeline.reuse import other_dataset
    from stages import sample

    config = params.build(sample.Config, "sample")
    start = time.monotonic()
    other = other_dataset(options.run.reuse, data)
    done = write_list(sample.parts(config, data / "sample"), config, data, options.redo, other, options.plain)
    return replace(done, seconds=time.monotonic() - start)


def _stage(name: str, params: Params, data: Path, options: Options) -> Done:
    config = params.of_stage(name)
    if name == "download" and config.keep == "link":
        note(data, params.section("sample"))
    return run_stage(name, config, data, options)


def facts(done: Done) -> dict[str, Any]:
    """A finished stage as plain values: for --json, the log, and the facts beside its metrics."""
    return {
        "stage": done.stage,
        **asdict(done.counts),
        "shards": done.shards,
        "shards_made": done.made,
        "shards_reused": done.reused,
        "seconds": round(done.seconds, 3),
        **({"summary": dict(done.summary)} if done.summary else {}),
    }


def describe(done: Done) -> str:
    rejected = sum(done.counts.rejected.values())
    reasons = ", ".join(f"{reason} {number}" for reason, number in done.counts.rejected.items())
    tail = f", {rejected} in quarantine ({reasons})" if rejected else ""
    lost = done.summary.get("captions_lost")
    tail += f", {bold(f'{lost} captions lost', sys.stdout)} with duplicates" if lost else ""
    reused = f", {done.reused} reused" if done.reused else ""
    work = (
        f"{done.made} of {done.shards} shards made{reused} in {done.seconds:.1f} s"
        if done.made or done.reused
        else f"{done.shards} shards, nothing due"
    )
    return f"{done.stage}: {done.counts.rows_in} rows in, {done.counts.rows_out} out{tail}; {work}"

"""`pairloom retry`: rows that failed once more, those of a download and those that any stage left out for an error."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from pairloom.errors import ConfigError
from pairloom.store import afar
from pairloom.store.folder import open_folder
from pipeline.cards import one_thread_a_worker
from pipeline.executor import Options
from pipeline.origins import with_sources
from pipeline.params import Params
from pipeline.stage import load, optional, order
from pipeline.task import Places
from pipeline.verbs.common import Outcome, add_verb, on_dataset, place
from pipeline.verbs.dataset import describe, facts
from pipeline.verbs.pairs import add_common, downloaded, outcome_of, settings_of
from schemas.quarantine import REASONS

SHORT = {"4xx": "http-4xx", "5xx": "http-5xx"}  # what people call them
OF_ANY_STAGE = frozenset({"stage-error", "worker-died"})  # what the executor gives as a reason, whatever the stage


def add(verbs: Any) -> None:
    verb = add_verb(
        verbs,
        "retry",
        on_dataset(retry, "folder"),
        "try the rows again that failed for the given reasons",
        "pairloom retry cc12m --reason dns,timeout,5xx",
    )
    verb.add_argument(
        "folder", type=place, nargs="?", default=Path("data"), help="the --out of `pairloom download`, or data"
    )
    verb.add_argument(
        "--reason",
        required=True,
        help="comma-separated reasons of the quarantine table; 5xx is http-5xx. stage-error and worker-died are tried "
        "again in every stage that has such rows, the others in download",
    )
    verb.add_argument("--stage", help="only this stage, for stage-error and worker-died")
    add_common(verb)


def retry(arguments: argparse.Namespace) -> Outcome:
    """Of a download only the rows of these reasons are fetched; of other stages their shards are made again."""
    one_thread_a_worker()
    params, options = settings_of(arguments)
    for name in (*order(), *optional()):
        for table in (name, f"quarantine/{name}"):
            afar.refresh(arguments.folder / table)
    params = with_sources(params, arguments.folder)
    reasons = {SHORT.get(word, word) for word in arguments.reason.replace(" ", "").split(",") if word}
    if unknown := sorted(reasons - set(REASONS)):
        raise ConfigError(f"there is no reason {unknown[0]!r}", "--reason", f"name some of {', '.join(REASONS)}")
    others = _others(arguments, reasons)
    outcomes = [_download(arguments.folder, params, reasons, options)] if _of_download(arguments, reasons) else []
    outcomes += [_remake(name, arguments.folder, params, reasons & OF_ANY_STAGE, options) for name in others]
    if not outcomes:
        return Outcome({"retried": 0}, f"retried: 0 rows; no stage of {arguments.folder} left one out for this")
    if len(outcomes) == 1:
        return outcomes[0]
    rows = sum(outcome.facts["retried"] for outcome in outcomes)
    return Outcome(
        {"stages": [outcome.facts for outcome in outcomes], "retried": rows},
        "\n".join(outcome.text for outcome in outcomes),
    )


def _of_download(arguments: argparse.Namespace, reasons: Collection[str]) -> bool:
    """Whether the download is asked for: by a reason of its own, or as a stage like any other."""
    from pipeline.retry import left_out

    if arguments.stage is not None:
        return bool(arguments.stage == "download")
    return not OF_ANY_STAGE.issuperset(reasons) or left_out(downloaded(arguments.folder).table, reasons) > 0


def _others(arguments: argparse.Namespace, reasons: Collection[str]) -> list[str]:
    """The stages but download that left rows out for these reasons, each after those that it reads."""
    from pipeline.retry import left_out

    known = [name for name in (*order(), *optional()) if name != "download"]
    if arguments.stage is not None:
        if arguments.stage not in (*known, "download"):
            fix = f"name one of download, {', '.join(known)}"
            raise ConfigError(f"there is no stage {arguments.stage!r}", "--stage", fix)
        known = [name for name in known if name == arguments.stage]
    asked = OF_ANY_STAGE.intersection(reasons)
    return [name for name in known if left_out(arguments.folder / name, asked)]


def _remake(name: str, folder: Path, params: Params, reasons: Collection[str], options: Options) -> Outcome:
    from pipeline.retry import remake

    made_with = open_folder(folder / name).header.config
    config = params.with_section(name, **{**params.section(name), **made_with}).of_stage(name)
    result = remake(name, config, Places.of(load(name), config, folder), reasons, options)
    text = f"retried: {result.rows} rows of {name}\n{describe(result.done)}"
    return Outcome(facts(result.done) | {"retried": result.rows}, text)


def _download(folder: Path, params: Params, reasons: Collection[str], options: Options) -> Outcome:
    """Only rows of these reasons are fetched. Their shards are written again, the others stay."""
    from pipeline.retry import retry as try_again
    from stages.download import OF_PIXELS, Config

    places = downloaded(folder)
    made_with = {name: getattr(Config(), name) for name in OF_PIXELS} | dict(open_folder(places.table).header.config)
    asked = params.section("download")
    for name in OF_PIXELS:
        if name in asked and asked[name] != made_with[name]:
            what = f"download.{name} is {asked[name]!r}, and the table was made with {made_with[name]!r}"
            raise ConfigError(what, params.file, f"leave {name} out: a retry stores pictures as the others are stored")
    made = params.with_section("download", **made_with).of_stage("download")
    asking = params.with_section("download", **{**made_with, **asked}).of_stage("download")
    asking = replace(asking, earlier_failures="fetch")
    result = try_again(made, asking, places, reasons, options)
    outcome = outcome_of(result.done, folder)
    return replace(
        outcome, facts=outcome.facts | {"retried": result.rows}, text=f"retried: {result.rows} rows\n{outcome.text}"
    )

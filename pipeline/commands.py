"""What each subcommand of `pairloom` does: settings in, calls to the rooms, a result to print."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.cluster import one_thread_a_worker
from pipeline.config import RunConfig, build, read_params
from pipeline.executor import Done, Options, run_stage
from pipeline.progress import TrainingProgress
from pipeline.stage import ORDER, load
from schemas.errors import ConfigError


@dataclass(frozen=True)
class Outcome:
    """A command's result: facts for --json, text for people, and the exit code."""

    facts: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    exit_code: int = 0


def run(arguments: argparse.Namespace) -> Outcome:
    """Every stage on one dataset folder, in order."""
    params = read_params(arguments.params)
    if arguments.urls:
        params.setdefault("sample", {})["urls"] = arguments.urls
    params.setdefault("download", {})["serve"] = str(arguments.out / "sample")  # the demo's pictures, if it is the demo
    done = [_one(name, params, arguments.out, arguments, arguments.out / "metrics") for name in ("sample", *ORDER)]
    text = "\n".join([*map(describe, done), f"shards: {arguments.out / 'shards'}"])
    return Outcome({"stages": [facts(one) for one in done]}, text)


def stage(arguments: argparse.Namespace) -> Outcome:
    """One stage; what `dvc repro` calls."""
    done = _one(arguments.name, read_params(arguments.params), arguments.data, arguments, arguments.metrics)
    return Outcome(facts(done), describe(done))


def _one(name: str, params: dict[str, Any], data: Path, arguments: argparse.Namespace, metrics: Path) -> Done:
    one_thread_a_worker()  # before a stage loads torch or numba
    options = _options(params, arguments)
    done = _sample(params, data, options) if name == "sample" else _stage(name, params, data, options)
    metrics.mkdir(parents=True, exist_ok=True)
    (metrics / f"{name}.json").write_text(json.dumps(facts(done), indent=1) + "\n", encoding="utf-8")
    return done


def _sample(params: dict[str, Any], data: Path, options: Options) -> Done:
    from pipeline.listing import write_list
    from stages import sample

    config = build(sample.Config, params.get("sample", {}), "params.yaml, section sample")
    start = time.monotonic()
    rows = sample.rows(config, data / "sample")
    return replace(write_list(rows, config, data, options.redo), seconds=time.monotonic() - start)


def _stage(name: str, params: dict[str, Any], data: Path, options: Options) -> Done:
    section = load(name).name
    config = build(load(name).config_type, params.get(section, {}), f"params.yaml, section {section}")
    return run_stage(name, config, data, options)


def _options(params: dict[str, Any], arguments: argparse.Namespace) -> Options:
    settings = build(RunConfig, params.get("run", {}), "params.yaml, section run")
    if arguments.cluster:
        settings = replace(settings, cluster=arguments.cluster)
    if arguments.workers:
        settings = replace(settings, workers=arguments.workers)
    return Options(settings, redo=arguments.redo, plain=arguments.quiet)


def facts(done: Done) -> dict[str, Any]:
    """A finished stage as plain values: the metrics file, and --json."""
    return {
        "stage": done.stage,
        **asdict(done.counts),
        "shards": done.shards,
        "shards_made": done.made,
        "seconds": round(done.seconds, 2),
    }


def describe(done: Done) -> str:
    rejected = sum(done.counts.rejected.values())
    reasons = ", ".join(f"{reason} {number}" for reason, number in done.counts.rejected.items())
    tail = f", {rejected} in quarantine ({reasons})" if rejected else ""
    work = (
        f"{done.made} of {done.shards} shards made in {done.seconds:.1f} s"
        if done.made
        else f"{done.shards} shards, nothing due"
    )
    return f"{done.stage}: {done.counts.rows_in} rows in, {done.counts.rows_out} out{tail}; {work}"


def train(arguments: argparse.Namespace) -> Outcome:
    """Train one recipe; its settings are section train.<recipe> of params.yaml."""
    from trainer import loop, recipe

    if arguments.recipe not in recipe.names():
        raise ConfigError(
            f"there is no recipe {arguments.recipe!r}", "trainer/recipes", f"name one of {', '.join(recipe.names())}"
        )
    section = read_params(arguments.params).get("train", {}).get(arguments.recipe) or {}
    given = {name: getattr(arguments, name) for name in ("steps", "seed") if getattr(arguments, name) is not None}
    config = build(loop.Config, section | given, f"params.yaml, section train.{arguments.recipe}")
    with TrainingProgress(arguments.recipe, arguments.quiet) as progress:
        result = loop.train(arguments.recipe, arguments.shards, config, progress)
    out = arguments.out or Path("models") / arguments.recipe
    name = f"train-{arguments.recipe}"
    loop.save(result, out, arguments.metrics / f"{name}.json", arguments.plots / f"{name}.csv")
    return Outcome(
        {"checkpoint": str(out), **result.metrics}, f"checkpoint: {out}\nmetrics: {arguments.metrics / name}.json"
    )


def report(arguments: argparse.Namespace) -> Outcome:
    """Write the HTML page about a dataset."""
    from inspection.report import write_report

    out = arguments.out or arguments.data / "report" / "index.html"
    summary = write_report(arguments.data, out, arguments.metrics, arguments.plots)
    return Outcome({"report": str(out), **summary}, f"report: {out}")


def info(arguments: argparse.Namespace) -> Outcome:
    """What a table or dataset holds."""
    from inspection.info import info, info_text

    found = info(arguments.folder)
    return Outcome(found, info_text(found))


def lint(arguments: argparse.Namespace) -> Outcome:
    """Every check of a table or dataset."""
    from inspection.lint import lint, lint_text

    problems = lint(arguments.folder)
    found = {"folder": str(arguments.folder), "problems": [problem.as_json() for problem in problems]}
    return Outcome(found, lint_text(problems), exit_code=1 if problems else 0)


def preview(arguments: argparse.Namespace) -> Outcome:
    """One row of a table."""
    from inspection.preview import preview

    shown = preview(arguments.folder, arguments.row, arguments.out)
    return Outcome(shown.facts, shown.text)


def doctor(arguments: argparse.Namespace) -> Outcome:
    """What is installed, what is there to compute on, and what is missing."""
    from pipeline.doctor import report as examine
    from pipeline.doctor import text

    checks = examine()
    missing = [check for check in checks if check.required and not check.ok]
    return Outcome({"checks": [asdict(check) for check in checks]}, text(checks), exit_code=1 if missing else 0)

"""`pairloom train`: a recipe on finished shards."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pipeline.config import build, read_params
from pipeline.progress import TrainingProgress
from pipeline.verbs.common import Outcome, add_verb
from schemas.errors import ConfigError


def add(verbs: Any) -> None:
    verb = add_verb(
        verbs,
        "train",
        train,
        "train a recipe on shards",
        "pairloom train uniter --shards data/shards --steps 300",
    )
    verb.add_argument("recipe", help="a name in trainer/recipes")
    verb.add_argument(
        "--shards", type=Path, default=Path("data/shards"), help="folder of shards (default: data/shards)"
    )
    verb.add_argument("--out", type=Path, help="folder for the checkpoint (default: models/RECIPE)")
    verb.add_argument("--metrics", type=Path, default=Path("metrics"), help="folder for metrics (default: metrics)")
    verb.add_argument("--plots", type=Path, default=Path("plots"), help="folder for the loss curve (default: plots)")
    verb.add_argument("--params", type=Path, default=Path("params.yaml"), help="settings (default: params.yaml)")
    verb.add_argument("--steps", type=int, help="overrides train.RECIPE.steps")
    verb.add_argument("--seed", type=int, help="overrides train.RECIPE.seed")
    verb.add_argument("--quiet", action="store_true", help="progress as plain lines")


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

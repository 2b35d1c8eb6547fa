"""Train a recipe by its name, as the command line does."""

from pathlib import Path

from systems import recipes
from trainer import loop
from trainer.optimise import Report


def train(
    name: str | Path,
    shards: Path,
    config: loop.Config,
    report: Report | None = None,
    out: Path | None = None,
) -> loop.TrainResult:
    """The recipe at the config's size, with what the config changes of it."""
    return loop.train(recipes.load(name, config.size, config.overrides(), config.variant), shards, config, report, out)

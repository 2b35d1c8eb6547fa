"""Fine-tune a checkpoint: its model goes on with the head of a task, by its recipe's optimiser.

VQA and retrieval are read as pre-training is: `trainer.loop` trains them, with all that it can. NLVR2 has two images an
example and RefCOCO a box, which no shard holds. A file has them, which is read in a new order every epoch
(rounds.py), by the same steps, with the same saved states and ranks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from devices import ranks
from evaluation.examples import Example, batch_of
from evaluation.gallery import Gallery
from evaluation.rounds import Place, Rounds
from pairloom.errors import ConfigError
from trainer import optimise
from trainer.config import Config
from trainer.contract import Shapes
from trainer.evaluate import Held, Tally
from trainer.learner import Learner
from trainer.optimise import Report
from trainer.precision import Arithmetic, Precision
from trainer.recipe import Recipe, parse
from trainer.state import Keeper

OBJECTIVES = {"vqa": "soft_answers", "nlvr2": "two_images", "refcoco": "grounding"}
WARMUP = 0.1  # share of the steps: what pre-training has is of many more


@dataclass(frozen=True, kw_only=True)
class Steps:
    """How long and how fast. None: as the recipe pre-trains."""

    steps: int
    batch_size: int  # rows, or examples
    lr: float | None = None


def recipe_of(before: Recipe, task: str, steps: Steps) -> Recipe:
    """The recipe of a checkpoint with the task's objective alone, and its own optimiser over other steps.

    Raises ConfigError if it matches nothing and the task is retrieval.
    """
    source = before.source
    if task != "retrieval":
        objectives: Mapping[str, Any] = {OBJECTIVES[task]: {}}
        retrieval, text = None, {**source["text"], "draw": []}
    elif before.retrieval is None:
        fix = "take a checkpoint of a recipe with `retrieval`, such as uniter or clip"
        raise ConfigError("it has no objective that matches images and texts", f"recipe {before.name}", fix)
    else:
        name = before.retrieval.objective
        own = {key: value for key, value in source["objectives"][name].items() if key not in ("step", "start")}
        objectives, retrieval, text = {name: own}, source["retrieval"], source["text"]
    training = source["training"] | {
        "steps": steps.steps,
        "batch_size": steps.batch_size,
        "warmup": WARMUP,
        "max_tokens": None,
        "balance": "fixed",
        **({} if steps.lr is None else {"lr": steps.lr}),
    }
    changed = {"objectives": objectives, "retrieval": retrieval, "text": text, "training": training, "expects": {}}
    return parse(source | changed, before.name, before.size, f"recipe {before.name} for {task}", before.parts)


def learner_for(before: Learner, task: str, steps: Steps, seed: int) -> Learner:
    """The model of `before` with a new head for the task, drawn by the seed."""
    recipe = recipe_of(before.recipe, task, steps)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        learner = Learner(recipe, replace_answers(before.shapes))
    learner.model.load_state_dict(before.model.state_dict())
    return learner


def replace_answers(shapes: Shapes) -> Shapes:
    """No head of a file's task numbers answers."""
    return replace(shapes, answers=())


@dataclass(frozen=True)
class Tuning:
    """What is seen, and how it is computed. made_of: what a saved state must have been made with, beside these."""

    gallery: Gallery
    train: Sequence[Example]
    val_gallery: Gallery
    val: Sequence[Example]
    seed: int = 0
    precision: Precision = "float32"
    made_of: Mapping[str, Any] = field(default_factory=dict)


def tune(
    learner: Learner,
    tuning: Tuning,
    report: Report | None = None,
    out: Path | None = None,
    config: Config | None = None,
) -> dict[str, Any]:
    """Train the learner, which is on its device. Returns metrics in the form of trainer.loop's.

    Dropout and order are functions of the seed. The same seed, machine and number of threads give the same weights,
    whether or not a run was killed and resumed: its state lies beside `out`. Under torchrun all ranks train together.
    config: when and how many states are saved. Raises ConfigError where ranks would have unequal parts of a batch.
    """
    (task,), training, world = learner.recipe.objectives, learner.recipe.training, ranks.launched()
    world.check(training.batch_size)
    config = config or Config()
    arithmetic = Arithmetic(tuning.precision, next(learner.parameters()).device.type)
    untrained, place = held_out(learner, tuning), Place(world.rank, world.size)
    rounds = Rounds(tuning.gallery, tuning.train, task, training.batch_size, tuning.seed, place)
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng())
        keeper = None
        if out is not None:
            settings = _settings(learner, tuning)
            keeper = Keeper(out, settings, config.save_every_s, config.keep_states, config.resume)
            stack.callback(keeper.close)
        with world.joined():
            history = optimise.run(learner, rounds, tuning.seed, arithmetic, report, keeper)
    last = history.curve(training.steps)[-1][task]
    return _metrics(learner, tuning, untrained, held_out(learner, tuning), last)


def _settings(learner: Learner, tuning: Tuning) -> dict[str, Any]:
    """What a saved state must have been made with."""
    own = {"seed": tuning.seed, "precision": tuning.precision, "examples": len(tuning.train)}
    return {"recipe": learner.recipe.source, "size": learner.recipe.size, **own, **tuning.made_of}


def _metrics(learner: Learner, tuning: Tuning, untrained: Held, trained: Held, loss: float | None) -> dict[str, Any]:
    """loss: of the last point of the curve."""
    (task,), training = learner.recipe.objectives, learner.recipe.training
    return {
        "recipe": learner.recipe.name,
        "size": learner.recipe.size,
        "steps": training.steps,
        "batch_size": training.batch_size,
        "seed": tuning.seed,
        "parameters": learner.parameter_count(),
        "rows": {"train": len(tuning.train), "val": len(tuning.val)},
        "objectives": {
            task: {
                "train_loss": loss,
                "held_out_loss": trained.loss,
                "untrained_loss": untrained.loss,
                "score": trained.score,
                "chance": trained.chance,
                "untrained_score": untrained.score,
                "predictions": trained.predictions,
                "rows": trained.rows,
            }
        },
        "retrieval": None,
    }


@torch.no_grad()
def held_out(learner: Learner, tuning: Tuning) -> Held:
    """The loss and the share of right predictions on the examples that are held out."""
    (task,), tally = learner.recipe.objectives, Tally()
    device, size = next(learner.parameters()).device, learner.recipe.training.batch_size
    learner.eval()
    for first in range(0, len(tuning.val), size):
        batch = batch_of(tuning.val_gallery, tuning.val[first : first + size], tuning.seed, None).to(device)
        tally.add(learner.losses(learner.kinds[task], batch).parts[task], len(batch))
    return tally.held()

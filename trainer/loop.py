"""Train a recipe on a folder of shards: one function from settings to weights, metrics and curves."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from devices import memory, norms, parallel, ranks
from devices.parallel import Shared
from pairloom.errors import ConfigError
from pairloom.loader import Loader, Options
from pairloom.loader import tokenizer as tokenizers
from pairloom.loader.batch import Batch
from pairloom.loader.make import Make
from pairloom.loader.rows import Rows, open_rows
from pairloom.loader.texts import Texts, open_texts
from pairloom.store.folder import sha256_of
from trainer import checkpoint, optimise, state
from trainer.average import Average, current
from trainer.config import Config
from trainer.evaluate import Exam, Held, Tested
from trainer.history import History, Point, Watch
from trainer.learner import Learner, shapes_of
from trainer.optimise import Around, Report
from trainer.precision import Arithmetic
from trainer.published import Placed
from trainer.recipe import Recipe
from trainer.state import Keeper
from trainer.trials import Trials

__all__ = ["METRICS", "Config", "TrainResult", "pick_device", "save", "train"]

METRICS = "metrics.json"


@dataclass(frozen=True)
class Told:
    """What the metrics of any test of this training say beside the test."""

    config: Config
    tokenizer: tokenizers.Tokenizer
    rows: dict[str, int]  # of each split
    untrained: dict[str, Held]

    def metrics(self, learner: Learner, tested: Tested, losses: Point) -> dict[str, Any]:
        """losses: the last point of the curve."""
        recipe, (held, found) = learner.recipe, tested
        return {
            "recipe": recipe.name,
            "size": recipe.size,
            "steps": recipe.training.steps,
            "batch_size": recipe.training.batch_size,
            "seed": self.config.seed,
            "parameters": learner.parameter_count(),
            "rows": self.rows,
            "objectives": {
                name: _compared(self.untrained[name], trained, losses.get(name)) for name, trained in held.items()
            },
            "retrieval": found,
        }


@dataclass(frozen=True)
class TrainResult:
    """What came out. The curve is that of optimise.History."""

    learner: Learner
    tokenizer: tokenizers.Tokenizer
    metrics: dict[str, Any]
    curve: list[Point]


def train(
    recipe: Recipe,
    shards: Path | str,
    config: Config,
    report: Report | None = None,
    out: Path | None = None,
    watch: Watch | None = None,
) -> TrainResult:
    """Train a recipe, loaded with config.overrides(), on the train shards and test it on the val shards.

    The same shards, settings, number of threads and machine give the same weights, whether or not a run was killed and
    resumed: its state lies beside `out`. Under torchrun all ranks train together, and each tests what came out.
    Raises ConfigError or StoreError before any work if the recipe asks for what the shards lack.
    """
    world = ranks.launched()
    world.check(recipe.training.batch_size)
    _refuse(recipe, config)
    rows = open_rows(shards, "train", recipe.columns(), recipe.text.languages, draw=recipe.text.draw)
    val = open_rows(shards, "val", recipe.columns(), recipe.text.languages, draw=recipe.text.draw)
    texts = None if config.texts is None else open_texts(Path(config.texts), recipe)
    with ExitStack() as stack:
        loader = stack.enter_context(closing(_loader(recipe, rows, texts, config)))
        stack.enter_context(_seeded(config))
        loader.pool()  # its processes start while the model is made and tested
        learner = _untrained(recipe, rows, loader.tokenizer, config)
        exam = Exam(val, Make(loader.tokenizer, recipe.units, augment=False, second=recipe.text.second), config.seed)
        told = Told(config, loader.tokenizer, {"train": len(rows), "val": len(val)}, exam.losses(learner))
        keeper = None
        if out is not None:
            settings = _settings(recipe, rows, texts, config)
            keeper = Keeper(out, settings, config.save_every_s, config.keep_states, config.resume)
            stack.callback(keeper.close)
        trials = _trials(config, exam, told, out)
        arithmetic = Arithmetic(config.precision, next(learner.parameters()).device.type)
        with world.joined():
            shared = _prepared(learner, config)
            average = None if config.ema is None else Average(learner, config.ema)
            around = Around(shared=shared, average=average, trials=trials, watch=watch)
            history = optimise.run(learner, loader, config.seed, arithmetic, report, keeper, around)
            learner = current(learner, shared, average)
        loader.close()
        tested = exam(learner)
    curve = history.curve(recipe.training.steps)
    metrics = told.metrics(learner, tested, curve[-1]) | ({} if trials is None else {"tests": trials.found})
    return TrainResult(learner, told.tokenizer, metrics | {"time": _time(history) | {"loader": loader.stats()}}, curve)


def save(result: TrainResult, out: Path, curve: Path | None) -> None:
    """Write the checkpoint folder, whose metrics.json has no times, and the loss curve (CSV) where that is named."""
    checkpoint.save(out, result.learner, result.tokenizer, result.metrics)
    untimed = {name: value for name, value in result.metrics.items() if name != "time"}
    (out / METRICS).write_text(json.dumps(untimed, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for path in state.beside(out):
        path.unlink()
    if curve is None:
        return
    curve.parent.mkdir(parents=True, exist_ok=True)
    with curve.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(result.curve[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(result.curve)


def _settings(recipe: Recipe, rows: Rows, texts: Texts | None, config: Config) -> dict[str, Any]:
    """What a saved state must have been made with, beside what the recipe holds. Workers and device may be others."""
    chosen = {key: getattr(config, key) for key in ("seed", "vocabulary", "precision", "init", "threads")}
    later = {key: getattr(config, key) for key in ("ema", "sync_batch_norm")}  # which states of before lack
    chosen |= {key: value for key, value in later.items() if value}
    chosen["texts"] = texts and texts.sha256
    return {"recipe": recipe.source, "size": recipe.size, "shards": sha256_of(rows.shards), **chosen}


def _continued(config: Config) -> bool:
    """Whether `init` is a folder that training wrote: its tokenizer stays in use, too."""
    return config.init is not None and checkpoint.is_ours(Path(config.init))


def _vocabulary(config: Config) -> Path | None:
    """The tokenizer's file that the settings name, or that lies beside the weights; None: the loader trains one."""
    folder = None if config.init is None else Path(config.init)
    if folder is not None and _continued(config):
        return folder / checkpoint.TOKENIZER
    if config.vocabulary is not None:
        return Path(config.vocabulary)
    beside = [] if folder is None else [folder / checkpoint.TOKENIZER, folder / "vocab.txt"]
    return next(filter(Path.exists, beside), None)


def _loader(recipe: Recipe, rows: Rows, texts: Texts | None, config: Config) -> Loader[Batch]:
    """This rank's."""
    world, training, vocabulary = ranks.launched(), recipe.training, _vocabulary(config)
    return Loader(
        rows,
        recipe,
        None if vocabulary is None else tokenizers.load(vocabulary, recipe.text),
        seed=config.seed,
        batch_size=training.batch_size,
        rank=world.rank,
        world_size=world.size,
        workers=config.workers,
        options=Options(
            max_tokens=training.max_tokens,
            texts=texts,
            pin=pick_device(config.device).type == "cuda",
            resize=config.resize,
        ),
    )


def _untrained(recipe: Recipe, rows: Rows, tokenizer: tokenizers.Tokenizer, config: Config) -> Learner:
    """Drawn by the seed, or what `init` names."""
    device, shapes = pick_device(config.device), shapes_of(recipe, tokenizer, rows.metadata())
    learner = Learner(recipe, shapes)
    if config.init is not None and _continued(config):
        checkpoint.take_over(learner, Path(config.init))
    elif config.init is not None:
        placed = checkpoint.load_published(learner, Path(config.init), config.init_partial)
        if _vocabulary(config) is None:
            _refuse_other_words(learner, placed, f"train.{recipe.name}.vocabulary")
    return learner.to(device)


def _refuse_other_words(learner: Learner, placed: Placed, setting: str) -> None:
    """Raises ConfigError if published vectors of words would stand for the words of a vocabulary trained just now."""
    words = learner.shapes.vocab_size
    if any(value.dim() == 2 and len(value) == words for value in placed.tensors.values()):
        given = f"the weights have a vector for each of {words:,} words, and no vocabulary says which"
        raise ConfigError(given, setting, "name their vocab.txt or tokenizer.json, or lay it beside the weights")


def pick_device(name: str) -> torch.device:
    """The device of this name. `auto` is the best there is, and a rank takes the CUDA device of its number."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{ranks.launched().local}"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        raise ConfigError(f"device {name} cannot be used: {error}", "train.device", "set auto or cpu") from error
    return torch.device(name)


def _refuse(recipe: Recipe, config: Config) -> None:
    """Raises ConfigError for settings that the recipe does not go with."""
    where = f"train.{recipe.name}"
    if config.parallel == "ddp" and recipe.training.adversarial is not None:
        given = "training.adversarial reads a batch several times a step, and ddp expects one backward pass"
        raise ConfigError(given, f"{where}.parallel", "set average or fsdp")
    if config.parallel == "fsdp" and recipe.training.sgd_of:
        given = "training.sgd_of has an optimiser of its own, which was not tested on pieces of tensors"
        raise ConfigError(given, f"{where}.parallel", "set average or ddp")
    if config.best_by == "retrieval" and recipe.retrieval is None:
        raise ConfigError("best_by is retrieval, and the recipe has none", f"{where}.best_by", "set loss")


def _prepared(learner: Learner, config: Config) -> Shared:
    """With what saves memory or time, and shared among the ranks."""
    if config.sync_batch_norm:
        norms.of_all_ranks(learner)
    if config.recompute:
        memory.recompute(learner.model)
    if config.accumulate > 1:
        memory.read_in_parts(learner.model, config.accumulate)
    if config.compile:
        memory.compile_layers(learner.model)
    return parallel.shared(learner, config.parallel, memory.layers_of(learner.model))


def _trials(config: Config, exam: Exam, told: Told, out: Path | None) -> Trials | None:
    """The tests in between. The first rank alone keeps the best weights."""
    if config.eval_every is None:
        return None

    def save(folder: Path, learner: Learner, tested: Tested, step: int) -> None:
        checkpoint.save(folder, learner, told.tokenizer, told.metrics(learner, tested, {}) | {"best_step": step})

    best = None if out is None or ranks.launched().rank else out.with_name(f"{out.name}-best")
    return Trials(config.eval_every, config.best_by, exam, save, best)


@contextmanager
def _seeded(config: Config) -> Iterator[None]:
    """torch's random state and threads as configured, and afterwards as they were."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        try:
            torch.set_num_threads(config.threads or threads)
            yield
        finally:
            torch.set_num_threads(threads)


def _compared(untrained: Held, trained: Held, train_loss: float | None) -> dict[str, float | int | None]:
    return {
        "train_loss": train_loss,  # over the last point of the curve. Null if its turn never came
        "held_out_loss": trained.loss,
        "untrained_loss": untrained.loss,  # held out, before the first step
        "score": trained.score,  # share of right predictions
        "chance": trained.chance,  # of the best constant guess
        "untrained_score": untrained.score,
        "predictions": trained.predictions,
        "rows": trained.rows,
    }


def _time(history: History) -> dict[str, float]:
    """The one part of the metrics that differs from run to run."""
    return {
        "seconds": round(history.seconds, 2),
        "rows_per_s": round(history.rows / history.seconds, 1),
        "waiting_for_data": round(history.waiting_s / history.seconds, 3),
    }

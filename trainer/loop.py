"""Train a recipe on a folder of shards: one function from settings to weights, metrics and curves."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch

from pairloom.errors import ConfigError
from pairloom.loader import Loader, Options
from pairloom.loader import tokenizer as tokenizers
from pairloom.loader.batch import Batch
from pairloom.loader.make import Make
from pairloom.loader.rows import Rows, open_rows
from pairloom.loader.texts import Texts, open_texts
from pairloom.store.folder import sha256_of
from pairloom.typed import Positive, Range, check_ranges
from trainer import checkpoint, optimise, ranks, state
from trainer.evaluate import Held, held_out_losses, retrieval
from trainer.history import History, Point
from trainer.learner import Learner, shapes_of
from trainer.optimise import Report
from trainer.precision import Arithmetic, Precision
from trainer.published import Placed
from trainer.recipe import Recipe
from trainer.state import Keeper

HELD_OUT_ROWS = 512
METRICS = "metrics.json"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Section `train.<recipe>` of params.yaml; null means what the recipe says."""

    size: str = "tiny"  # of the model: base, or one of the sizes that the recipe lists
    variant: str | None = None  # of the recipe: one that it lists, such as no-questions
    steps: Positive | None = None  # of training
    batch_size: Positive | None = None  # rows, over all ranks
    lr: Annotated[float, Range(above=0)] | None = None  # learning rate at its height
    seed: int = 0  # of all that is random in training
    languages: tuple[str, ...] | None = None  # of the captions, as BCP 47 codes; empty means all
    texts: str | None = None  # table of texts without images (`pairloom texts`), for rows of text alone
    vocabulary: str | None = None  # a tokenizer.json or vocab.txt; null trains one on the captions
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    precision: Precision = "float32"  # of the arithmetic; weights stay float32
    init: str | None = None  # weights to start from: a folder that training wrote, or published ones (docs/weights.md)
    init_partial: bool = False  # whether published weights may give a part of the model only some of its tensors
    workers: Annotated[int, Range(0)] = 0  # processes that prepare batches
    threads: Positive | None = None  # of torch on a CPU; another number gives other rounding
    save_every_s: Annotated[float, Range(0)] = 600.0  # a killed run loses at most so many seconds

    def __post_init__(self) -> None:
        check_ranges(self)

    def overrides(self) -> dict[str, Any]:
        """What of this replaces settings of the recipe."""
        given = {key: getattr(self, key) for key in ("steps", "batch_size", "lr")}
        training = {key: value for key, value in given.items() if value is not None}
        text = {} if self.languages is None else {"languages": list(self.languages)}
        return {"training": training, "text": text}


@dataclass(frozen=True)
class TrainResult:
    """What came out; the curve is that of optimise.History."""

    learner: Learner
    tokenizer: tokenizers.Tokenizer
    metrics: dict[str, Any]
    curve: list[Point]


def train(
    recipe: Recipe, shards: Path, config: Config, report: Report | None = None, out: Path | None = None
) -> TrainResult:
    """Train a recipe, loaded with config.overrides(), on the train shards and test it on the val shards.

    The same shards, settings, number of threads and machine give the same weights, whether or not a run was killed and
    resumed: its state lies beside `out`. Under torchrun all ranks train together, and each tests what came out.
    Raises ConfigError or StoreError before any work if the recipe asks for what the shards lack.
    """
    world = ranks.launched()
    world.check(recipe.training.batch_size)
    rows = open_rows(shards, "train", recipe.columns(), recipe.text.languages, draw=recipe.text.draw)
    val = open_rows(shards, "val", recipe.columns(), recipe.text.languages, draw=recipe.text.draw)
    texts = None if config.texts is None else open_texts(Path(config.texts), recipe)
    with closing(_loader(recipe, rows, texts, config)) as loader, _seeded(config):
        loader.pool()  # its processes start while the model is made and tested
        tokenizer = loader.tokenizer
        learner = _untrained(recipe, rows, tokenizer, config)
        make = Make(tokenizer, recipe.units, augment=False, second=recipe.text.second)
        untrained = _held_out(learner, val, make, config)
        keeper = Keeper(state.beside(out), _settings(recipe, rows, texts, config), config.save_every_s) if out else None
        arithmetic = Arithmetic(config.precision, next(learner.parameters()).device.type)
        with world.joined():
            history = optimise.run(learner, loader, config.seed, arithmetic, report, keeper)
        loader.close()
        trained = _held_out(learner, val, make, config)
        found = None if recipe.retrieval is None else retrieval(learner, val, make, seed=config.seed)
    curve = history.curve(recipe.training.steps)
    metrics = _metrics(learner, config, {"train": len(rows), "val": len(val)}) | {
        "objectives": {name: _compared(untrained[name], trained[name], curve[-1][name]) for name in trained},
        "retrieval": found,
        "time": _time(history) | {"loader": loader.stats()},
    }
    return TrainResult(learner, tokenizer, metrics, curve)


def save(result: TrainResult, out: Path, metrics: Path | None, curve: Path | None) -> None:
    """Write the checkpoint folder with metrics.json; the same metrics and the loss curve (CSV) for DVC where named."""
    checkpoint.save(out, result.learner, result.tokenizer, result.metrics)
    for path in (out / METRICS, *([metrics] if metrics else [])):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result.metrics, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    state.beside(out).unlink(missing_ok=True)
    if curve is None:
        return
    curve.parent.mkdir(parents=True, exist_ok=True)
    with curve.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(result.curve[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(result.curve)


def _settings(recipe: Recipe, rows: Rows, texts: Texts | None, config: Config) -> dict[str, Any]:
    """What a saved state must have been made with, beside what the recipe holds; workers and device may be others."""
    chosen = {key: getattr(config, key) for key in ("seed", "vocabulary", "precision", "init", "threads")}
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
        options=Options(max_tokens=training.max_tokens, texts=texts, pin=pick_device(config.device).type == "cuda"),
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
    """The device of this name; `auto` is the best there is, and a rank takes the CUDA device of its number."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{ranks.launched().local}"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        raise ConfigError(f"device {name} cannot be used: {error}", "train.device", "set auto or cpu") from error
    return torch.device(name)


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


def _held_out(learner: Learner, val: Rows, make: Make, config: Config) -> dict[str, Held]:
    size = min(learner.recipe.training.batch_size, 256)
    found: dict[str, Held] = {}
    for kind in learner.kinds.values():
        found |= held_out_losses(learner, val, make, kind, seed=config.seed, batch_size=size, most_rows=HELD_OUT_ROWS)
    return found


def _compared(untrained: Held, trained: Held, train_loss: float | None) -> dict[str, float | int | None]:
    return {
        "train_loss": train_loss,  # over the last point of the curve; null if its turn never came
        "held_out_loss": trained.loss,
        "untrained_loss": untrained.loss,  # held out, before the first step
        "score": trained.score,  # share of right predictions
        "chance": trained.chance,  # of the best constant guess
        "untrained_score": untrained.score,
        "predictions": trained.predictions,
        "rows": trained.rows,
    }


def _metrics(learner: Learner, config: Config, rows: dict[str, int]) -> dict[str, Any]:
    recipe = learner.recipe
    return {
        "recipe": recipe.name,
        "size": recipe.size,
        "steps": recipe.training.steps,
        "batch_size": recipe.training.batch_size,
        "seed": config.seed,
        "parameters": learner.parameter_count(),
        "rows": rows,
    }


def _time(history: History) -> dict[str, float]:
    """The one part of the metrics that differs from run to run."""
    return {
        "seconds": round(history.seconds, 2),
        "rows_per_s": round(history.rows / history.seconds, 1),
        "waiting_for_data": round(history.waiting_s / history.seconds, 3),
    }

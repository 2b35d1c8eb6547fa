"""`pairloom finetune`: a checkpoint for a task of papers."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairloom.errors import ConfigError
from pipeline.advice import advised
from pipeline.progress import TrainingProgress
from pipeline.verbs.common import Outcome, add_verb, local
from pipeline.verbs.evaluating import FROM_FILES, add_referring, add_shared, check_files, lines, referring

if TYPE_CHECKING:  # the command line should not take the seconds that torch does
    from trainer.learner import Learner

TUNED = ("vqa", "nlvr2", "refcoco", "retrieval")


def add(verbs: Any) -> None:
    tune = add_verb(
        verbs,
        "finetune",
        finetune,
        "train a checkpoint on with the head of a task: VQA, NLVR2, RefCOCO, retrieval",
        "pairloom finetune models/uniter --task vqa --shards data/shards --epochs 4 --out models/uniter-vqa",
    )
    add_shared(tune, TUNED)
    tune.add_argument("--out", type=local, help="folder for the checkpoint (default: CHECKPOINT-TASK)")
    tune.add_argument("--file", type=local, help="nlvr2, refcoco: the examples to train on")
    tune.add_argument("--val-file", type=local, help="nlvr2, refcoco: the examples that are held out")
    tune.add_argument("--split", default="train", help="nlvr2, refcoco: where the images of --file are")
    tune.add_argument("--val-split", default="val", help="where those of --val-file are (default: val)")
    add_referring(tune, "train")
    tune.add_argument("--val-part", default="val", help="refcoco: the part of --val-file where it is a pickle")
    tune.add_argument("--epochs", type=float, default=4.0, help="passes through the examples (default: 4)")
    tune.add_argument("--batch-size", type=int, default=32, help="rows or examples (default: 32)")
    tune.add_argument("--lr", type=float, help="highest learning rate (default: the recipe's)")
    tune.add_argument("--seed", type=int, default=0)
    tune.add_argument(
        "--precision", choices=("float32", "bfloat16", "float16"), default="float32", help="of the arithmetic"
    )


def finetune(arguments: argparse.Namespace) -> Outcome:
    """Train, test with the task's figures, save."""
    from devices import ranks
    from systems import checkpoints

    check_files(arguments)
    for name in ("epochs", "batch_size"):
        if getattr(arguments, name) <= 0:
            raise ConfigError(f"{name} is {getattr(arguments, name)}", f"--{name.replace('_', '-')}", "set it above 0")
    if arguments.task in FROM_FILES and arguments.val_file is None:
        raise ConfigError("no examples are held out", "--val-file", "name a file of examples that are not in --file")
    learner, tokenizer = checkpoints.load(arguments.checkpoint, arguments.beside)
    out = arguments.out or arguments.checkpoint.with_name(f"{arguments.checkpoint.name}-{arguments.task}")
    tuned = _tune_by_file if arguments.task in FROM_FILES else _tune_by_shards
    metrics = tuned(arguments, learner, tokenizer, out)
    if ranks.launched().rank:
        return Outcome()  # the first alone tells and writes
    (out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    text = "\n".join([*lines(metrics["task"]), f"checkpoint: {out}"])
    return Outcome({"checkpoint": str(out), **metrics}, text)


def _tune_by_shards(arguments: argparse.Namespace, before: Learner, tokenizer: Any, out: Path) -> dict[str, Any]:
    """VQA and retrieval: a row an image and caption, read as in pre-training."""
    from devices import ranks
    from evaluation import answering, examples, finetuning, matching
    from evaluation.gallery import open_gallery
    from pairloom.loader.rows import open_rows
    from trainer import loop

    recipe = finetuning.recipe_of(before.recipe, arguments.task, finetuning.Steps(steps=1, batch_size=1))
    rows = len(open_rows(arguments.shards, arguments.split, recipe.columns(), recipe.text.languages))
    recipe = finetuning.recipe_of(before.recipe, arguments.task, _steps(arguments, rows))
    config = loop.Config(
        seed=arguments.seed, device=arguments.device, precision=arguments.precision, init=str(arguments.checkpoint)
    )
    with TrainingProgress(f"finetune {arguments.task}", arguments.quiet) as progress, advised():
        result = loop.train(recipe, arguments.shards, config, progress if not ranks.launched().rank else None, out)
    learner = result.learner.eval()
    beside = ("qa",) if arguments.task == "vqa" else ()
    gallery = open_gallery(arguments.shards, arguments.val_split, recipe, result.tokenizer, beside=beside)
    if arguments.task == "vqa":
        figures = answering.vqa(learner, gallery, examples.of_vqa(gallery))
    else:
        figures = matching.retrieval(learner, gallery)
    _save(out, learner, result.tokenizer, result.metrics)
    return result.metrics | {"task": figures}


def _tune_by_file(arguments: argparse.Namespace, before: Learner, tokenizer: Any, out: Path) -> dict[str, Any]:
    """NLVR2 and RefCOCO: the examples of a file."""
    from devices import ranks
    from evaluation import answering, examples, finetuning
    from evaluation.gallery import columns_of, open_gallery
    from pairloom.store.hashed import sha256_file
    from trainer.checkpoint import WEIGHTS
    from trainer.loop import pick_device

    read = {"nlvr2": examples.of_nlvr2, "refcoco": examples.of_refcoco}[arguments.task]
    found = []
    both = (
        (arguments.split, arguments.file, arguments.part),
        (arguments.val_split, arguments.val_file, arguments.val_part),
    )
    for split, file, part in both:
        named = columns_of(arguments.match)
        gallery = open_gallery(arguments.shards, split, before.recipe, tokenizer, beside=named)
        found.append((gallery, read(gallery, file, arguments.match, *referring(arguments, part))))
    (gallery, train), (val_gallery, val) = found
    learner = finetuning.learner_for(before, arguments.task, _steps(arguments, len(train)), arguments.seed)
    learner.to(pick_device(arguments.device))
    made_of = {"init": sha256_file(arguments.checkpoint / WEIGHTS), "file": sha256_file(arguments.file)}
    tuning = finetuning.Tuning(gallery, train, val_gallery, val, arguments.seed, arguments.precision, made_of)
    with TrainingProgress(f"finetune {arguments.task}", arguments.quiet) as progress, advised():
        report = progress if not ranks.launched().rank else None
        metrics = finetuning.tune(learner, tuning, report, out)
    test = {"nlvr2": answering.nlvr2, "refcoco": answering.refcoco}[arguments.task]
    figures = test(learner, val_gallery, val)
    _save(out, learner, tokenizer, metrics)
    return metrics | {"task": figures}


def _steps(arguments: argparse.Namespace, examples: int) -> Any:
    from evaluation.finetuning import Steps

    size = min(arguments.batch_size, examples)
    return Steps(steps=max(1, round(arguments.epochs * examples / size)), batch_size=size, lr=arguments.lr)


def _save(out: Path, learner: Learner, tokenizer: Any, metrics: dict[str, Any]) -> None:
    """What `pairloom evaluate` and systems.checkpoints open. The states of the training go. The first rank's."""
    from devices import ranks
    from trainer import checkpoint, state

    if ranks.launched().rank:
        return
    checkpoint.save(out, learner, tokenizer, metrics)
    for path in state.beside(out):
        path.unlink()

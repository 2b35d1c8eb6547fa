"""Save and load what was trained: weights, configuration, tokenizer and a short model card."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from pairloom.errors import InputError
from pairloom.loader.tokenizer import Tokenizer
from pairloom.loader.tokenizer import load as load_tokenizer
from pairloom.store.hashed import sha256_file
from trainer import weight_files
from trainer.contract import Shapes
from trainer.learner import Learner
from trainer.published import Placed
from trainer.recipe import Parts, parse

WEIGHTS, CONFIG, TOKENIZER, CARD = "model.safetensors", "config.json", "tokenizer.json", "README.md"


def save(out: Path, learner: Learner, tokenizer: Tokenizer, metrics: dict[str, Any]) -> None:
    """Write the four files, the weights in float32."""
    out.mkdir(parents=True, exist_ok=True)
    recipe = learner.recipe
    save_file({name: value.detach().cpu().contiguous() for name, value in learner.state_dict().items()}, out / WEIGHTS)
    config = {"recipe": recipe.name, "size": recipe.size, "shapes": dataclasses.asdict(learner.shapes)}
    config["sha256"] = sha256_file(out / WEIGHTS)
    document = json.dumps(config | {"settings": recipe.source}, indent=1, ensure_ascii=False) + "\n"
    (out / CONFIG).write_text(document, encoding="utf-8")
    tokenizer.save(out / TOKENIZER)
    (out / CARD).write_text(card(learner, metrics), encoding="utf-8")


def load(out: Path, parts: Parts) -> tuple[Learner, Tokenizer]:
    """What `save` wrote, of modules that `parts` finds. Raises InputError if it is not there or damaged."""
    try:
        config = json.loads((out / CONFIG).read_text(encoding="utf-8"))
        if config.get("sha256", digest := sha256_file(out / WEIGHTS)) != digest:
            fix = "train again, or take them from a copy"
            raise InputError("the weights are not what was written", str(out / WEIGHTS), fix)
        state = load_file(out / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"it is not a checkpoint: {error}", str(out), "name the folder that training wrote") from error
    recipe = parse(config["settings"], config["recipe"], config["size"], str(out / CONFIG), parts)
    learner = Learner(recipe, Shapes(**config["shapes"]))
    try:
        learner.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(f"the weights do not fit: {error}", str(out), "train again with this version") from error
    return learner.eval(), load_tokenizer(out / TOKENIZER, recipe.text)


def take_over(learner: Learner, out: Path) -> None:
    """Begin where the checkpoint of any recipe ended.

    What the two have in common by name and shape is taken over: the model, and heads of the same objectives, but no
    head that would give its answers other names. Raises InputError if that is nothing of the model.
    """
    before, own = load(out, learner.recipe.parts)[0], learner.state_dict()
    fitting = {n: v for n, v in before.state_dict().items() if n in own and own[n].shape == v.shape}
    if tuple(before.shapes.answers) != tuple(learner.shapes.answers):
        objectives = learner.recipe.objectives.items()
        heads = tuple(f"heads.{key}." for key, part in objectives if "answers" in part.numbered_by)
        fitting = {name: value for name, value in fitting.items() if not name.startswith(heads)}
    if not any(name.startswith("model.") for name in fitting):
        raise InputError("no weight of its model fits", str(out), f"train recipe {learner.recipe.name} without --init")
    learner.load_state_dict(fitting, strict=False)


def is_ours(path: Path) -> bool:
    """Whether it is a folder that `save` wrote. Other programs call a file config.json, too."""
    try:
        return "settings" in json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def load_published(learner: Learner, path: Path, partial: bool = False) -> Placed:
    """Start from published weights. Standard error tells which parts they fill, and what is left out on either side."""
    placed = learner.load_published(weight_files.read(path), partial)
    if not placed.tensors:
        raise InputError("none of its weights has a place here", str(path), "take weights of the recipe's model")
    parts = Counter(".".join(name.split(".")[:2]) for name in placed.tensors)
    told = [f"{path} gives {', '.join(f'{part} ({count} tensors)' for part, count in parts.items())}"]
    told += [f"it lacks, so that they start at random: {_some(placed.missing)}"] if placed.missing else []
    told += [f"it has no place here for {_some(placed.left_over)}"] if placed.left_over else []
    for line in told:
        print(line, file=sys.stderr)
    return placed


def _some(names: tuple[str, ...]) -> str:
    return f"{len(names)} tensors: {', '.join(names[:5])}" + (" …" if len(names) > 5 else "")


def card(learner: Learner, metrics: dict[str, Any]) -> str:
    """The model card: what it is, what it was trained on and how well it does."""
    recipe = learner.recipe
    objectives = [
        f"| {name} | {value['untrained_loss']:.3f} | {value['held_out_loss']:.3f} | {_percent(value['score'])} "
        f"| {_percent(value['chance'])} |"
        for name, value in metrics["objectives"].items()
    ]
    return "\n".join(
        [
            f"# {recipe.name}, size {recipe.size}",
            "",
            f"Recipe: {recipe.paper}. {learner.parameter_count():,} parameters, {metrics['steps']} steps of "
            f"{metrics['batch_size']} rows, seed {metrics['seed']}; {metrics['rows']['train']} rows to train on, "
            f"{metrics['rows']['val']} held out. Trained from scratch by pairloom; systems.checkpoints opens it.",
            "",
            "| objective | held-out loss untrained | trained | right | best constant guess |",
            "|---|---|---|---|---|",
            *objectives,
            "",
            *(_retrieval(metrics["retrieval"]) if metrics["retrieval"] else []),
        ]
    )


def _retrieval(found: dict[str, Any]) -> list[str]:
    directions = [
        f"| {name.replace('_', ' ')} | {_percent(found[name]['r_at_1'])} ({_percent(found[name]['chance_r_at_1'])}) "
        f"| {_percent(found[name]['r_at_5'])} ({_percent(found[name]['chance_r_at_5'])}) |"
        for name in ("text_to_image", "image_to_text")
    ]
    return [
        f"Retrieval among {found['images']} held-out images and {found['captions']} captions (chance in brackets):",
        "",
        "| | R@1 | R@5 |",
        "|---|---|---|",
        *directions,
        "",
    ]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"

"""A model together with the heads of its recipe's objectives: all that is trained and saved."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from devices.ranks import mean_of_all
from pairloom.errors import ConfigError
from pairloom.loader.batch import Batch
from pairloom.loader.tokenizer import Tokenizer
from trainer.balance import adaptive
from trainer.contract import Matcher, Perturbable, Published, Scored, Shapes
from trainer.published import Layout, Placed, fitting, layout_of, place
from trainer.recipe import Part, Recipe


@dataclass(frozen=True)
class Losses:
    """Of one step: the sum that is minimised, and what each objective says."""

    loss: Tensor  # scalar
    parts: dict[str, Scored]


class Learner(nn.Module):
    """The recipe's model and one head an objective."""

    def __init__(self, recipe: Recipe, shapes: Shapes) -> None:
        super().__init__()
        self.recipe, self.shapes, self.kinds = recipe, shapes, recipe.steps()
        # Any: a Fusion or Towers, or what else its objectives ask for
        self.model: Any = recipe.model.model.build(recipe.model.settings, shapes)
        if recipe.training.adversarial and not isinstance(self.model, Perturbable):
            given = f"model {recipe.model.name} takes no perturbations"
            raise ConfigError(
                given, f"recipe {recipe.name}", "leave training.adversarial out, or take a model that takes nudges"
            )
        self.heads = nn.ModuleDict(
            {name: part.objective.head(part.settings, self.model, shapes) for name, part in recipe.objectives.items()}
        )

    def forward(self, batch: Batch, nudges: object = None) -> Losses:
        """The losses of a batch by the objectives of its step, all on one pass of the model.

        Training comes in here, because what DDP and FSDP2 do stands around it.
        """
        return self.losses(self.kinds[batch.objective], batch, nudges)

    def losses(self, kind: Mapping[str, Part], batch: Batch, nudges: object = None) -> Losses:
        """nudges: what adversarial training adds to the model's embeddings."""
        together, apart = ([name for name, part in kind.items() if part.apart is alone] for alone in (False, True))
        passes = [(together, batch), *(([name], rows) for name, rows in zip(apart, batch.apart, strict=True))]
        found: dict[str, Scored] = {}
        for names, rows in passes:
            encoded = self.model(rows) if nudges is None else self.model(rows, nudges)
            for name in names:
                part = kind[name]
                found[name] = of_all(part.objective.loss(self.model, encoded, self.heads[name], rows, part.settings))
        parts = {name: found[name] for name in kind}
        weights = {name: part.weight if batch.progress >= part.start else 0.0 for name, part in kind.items()}
        weighted_K = torch.stack([weights[name] * parts[name].loss for name in kind])
        if self.recipe.training.balance == "adaptive":
            weighted_K = weighted_K * adaptive(weighted_K)
        return Losses(weighted_K.sum(), parts)

    def similarity(self, images: Batch, texts: Batch) -> Tensor:
        """(I, N) float by the recipe's retrieval objective, higher is better."""
        assert self.recipe.retrieval is not None
        part = self.recipe.objectives[self.recipe.retrieval.objective]
        head, objective = self.heads[self.recipe.retrieval.objective], part.objective
        assert isinstance(objective, Matcher), "the recipe was refused before"
        return objective.similarity(self.model, head, part.settings, images, texts)

    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    def load_published(self, state: Mapping[str, Tensor], partial: bool = False) -> Placed:
        """Start from weights that somebody else's program wrote. Returns what went where.

        partial: a part may get only some of its tensors, and those of another shape are left out.
        Raises ConfigError if the model knows no such file, or, unless partial, if a part would get only some of its
        tensors or one of another shape.
        """
        module, given = self.recipe.model.module, f"recipe {self.recipe.name}"
        if not isinstance(module, Published):
            raise ConfigError(f"model {self.recipe.model.name} knows no published names", given, "leave out --init")
        layouts = module.published(self.model, dict(self.heads.items()))
        layout = layout_of(tuple(state), layouts)
        if layout is None:
            known = ", ".join(layout.title for layout in layouts)
            raise ConfigError(f"nobody's names: {', '.join(list(state)[:3])} …", given, f"take weights of {known}")
        own = {name: value for name, value in self.state_dict(keep_vars=True).items() if value.is_floating_point()}
        placed = fitting(place(state, layout, own), own) if partial else place(state, layout, own)
        placed = replace(placed, missing=tuple(name for name in placed.missing if _is_learned(own[name])))
        if not partial:
            _refuse_partial(placed, layout, own, given)
        with torch.no_grad():
            for name, value in placed.tensors.items():
                own[name].copy_(value)
        return placed


def of_all(scored: Scored) -> Scored:
    """What an objective says of the batches of all ranks together, where it has said it of this rank's.

    A loss is a mean over predictions, of which ranks have unequally many (hidden words, say). So each rank's counts by
    its share of them all, and what is minimised is the loss of the global batch, not the mean of the ranks' means.
    The value is the same on every rank. The mean of the ranks' gradients is its gradient.
    """
    return replace(scored, loss=mean_of_all(scored.loss, scored.count if scored.over is None else scored.over))


def _is_learned(value: Tensor) -> bool:
    """What training changes, and running means. Not a constant, nor what is frozen: a file need not have these."""
    return value.requires_grad or not isinstance(value, nn.Parameter)


def _refuse_partial(placed: Placed, layout: Layout, own: Mapping[str, Tensor], given: str) -> None:
    """Raises ConfigError if a part of the model would start with only some of its tensors."""
    for name, value in placed.tensors.items():
        if own[name].shape != value.shape:
            wrong = f"{placed.sources[name]} is {tuple(value.shape)}, {name} is {tuple(own[name].shape)}"
            fix = "take the size and the vocabulary that the weights were made for, or --init-partial to start it anew"
            raise ConfigError(wrong, given, fix)
    if placed.missing:
        named = ", ".join(placed.missing[:3]) + (" …" if len(placed.missing) > 3 else "")
        wrong = f"the weights, {layout.title}'s by their names, lack {len(placed.missing)} tensors: {named}"
        raise ConfigError(wrong, given, "take the whole file, or --init-partial to start these at random")


def shapes_of(recipe: Recipe, tokenizer: Tokenizer, metadata: Mapping[str, str]) -> Shapes:
    """The sizes that tokenizer and shards decide."""
    answers = tuple(json.loads(metadata.get("answers", "[]")))
    sizes = recipe.units.unit.shapes(recipe.units.settings, metadata)
    return Shapes(tokenizer.vocab_size, **sizes, answers=answers)

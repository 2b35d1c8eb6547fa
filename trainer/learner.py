"""A model together with the heads of its recipe's objectives: all that is trained and saved."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pairloom.errors import ConfigError
from pairloom.loader.batch import Batch
from pairloom.loader.tokenizer import Tokenizer
from trainer.balance import adaptive
from trainer.contract import Matcher, Perturbable, Published, Scored, Shapes
from trainer.ranks import of_all
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

    def forward(self, batch: Batch) -> Losses:
        """The losses of a batch by the objectives of its step, all on one pass of the model; DDP wants it here."""
        return self.losses(self.kinds[batch.objective], batch)

    def losses(self, kind: Mapping[str, Part], batch: Batch, nudges: object = None) -> Losses:
        """nudges: what adversarial training adds to the model's embeddings."""
        encoded = self.model(batch) if nudges is None else self.model(batch, nudges)
        parts: dict[str, Scored] = {}
        for name, part in kind.items():
            parts[name] = of_all(part.objective.loss(self.model, encoded, self.heads[name], batch, part.settings))
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

    def load_published(self, state: Mapping[str, Tensor]) -> list[str]:
        """Start from published weights, whose names the model's module translates; returns names that found no place.

        Raises ConfigError if the model knows no published names, or a weight is of another shape.
        """
        module, own, given = self.recipe.model.module, self.state_dict(), f"recipe {self.recipe.name}"
        if not isinstance(module, Published):
            raise ConfigError(f"model {self.recipe.model.name} knows no published names", given, "leave out --init")
        left_over = []
        for name, value in state.items():
            places = [place for place in module.published(name, tuple(self.heads)) if place in own]
            left_over += [] if places else [name]
            for place in places:
                if own[place].shape != value.shape:
                    wrong = f"{name} is {tuple(value.shape)}, {place} is {tuple(own[place].shape)}"
                    raise ConfigError(wrong, given, "take the size and the vocabulary that the weights were made for")
                own[place].copy_(value)
        return left_over


def shapes_of(recipe: Recipe, tokenizer: Tokenizer, metadata: Mapping[str, str]) -> Shapes:
    """The sizes that tokenizer and shards decide."""
    answers = tuple(json.loads(metadata.get("answers", "[]")))
    sizes = recipe.units.unit.shapes(recipe.units.settings, metadata)
    return Shapes(tokenizer.vocab_size, **sizes, answers=answers)

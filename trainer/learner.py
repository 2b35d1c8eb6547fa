"""A model together with the heads of its recipe's objectives: all that is trained and saved."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from trainer.batch import Batch
from trainer.contract import Scored, Shapes
from trainer.recipe import Recipe
from trainer.tokenizer import Tokenizer


class Learner(nn.Module):
    """The recipe's model and one head an objective."""

    def __init__(self, recipe: Recipe, shapes: Shapes) -> None:
        super().__init__()
        self.recipe, self.shapes = recipe, shapes
        self.model = recipe.model.module.build(recipe.model.settings, shapes)
        self.heads = nn.ModuleDict(
            {name: part.module.head(part.settings, self.model, shapes) for name, part in recipe.objectives.items()}
        )

    def loss(self, objective: str, batch: Batch) -> Scored:
        part = self.recipe.objectives[objective]
        scored: Scored = part.module.loss(self.model, self.heads[objective], batch, part.settings)
        return scored

    def forward(self, batch: Batch) -> Scored:
        """The loss of a batch by its own objective; DDP and FSDP want it here."""
        return self.loss(batch.objective, batch)

    def similarity(self, images: Batch, texts: Batch) -> Tensor:
        """(I, N) float by the recipe's retrieval objective, higher is better."""
        part = self.recipe.objectives[self.recipe.retrieval.objective]
        head = self.heads[self.recipe.retrieval.objective]
        scores: Tensor = part.module.similarity(self.model, head, part.settings, images, texts)
        return scores

    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())


def shapes_of(recipe: Recipe, tokenizer: Tokenizer, metadata: Mapping[str, str]) -> Shapes:
    """The sizes that tokenizer and shards decide."""
    return Shapes(tokenizer.vocab_size, **recipe.units.module.shapes(recipe.units.settings, metadata))

"""How models start: what says where a word stands weighs little beside what it is, at every size."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from systems import recipes
from trainer.contract import Shapes
from trainer.learner import Learner

SHAPES = {"feature_width": 16, "num_classes": 7, "num_attributes": 5, "image_size": 64, "answers": ("yes", "no")}
PLACES = ("position_embeddings", "token_type_embeddings", "places", "kinds", "place")
WORDS = ("word_embeddings", "words")
OTHERWISE = ("clip", "vit", "fashionbert", "kaleidobert")  # transformers' own start, or models of crops


@pytest.mark.parametrize("name", [name for name in recipes.names() if name not in OTHERWISE])
def test_positions_and_kinds_start_faint_beside_words(name: str) -> None:
    torch.manual_seed(0)
    recipe = recipes.load(name, "tiny")
    model = Learner(recipe, Shapes(400, **SHAPES)).model  # type: ignore[arg-type]
    tables = {path: part.weight.std().item() for path, part in model.named_modules() if isinstance(part, nn.Embedding)}
    places = {path: std for path, std in tables.items() if path.rpartition(".")[2] in PLACES}
    words = {path: std for path, std in tables.items() if path.rpartition(".")[2] in WORDS}
    assert places.keys() | words.keys() == tables.keys()
    assert all(0.015 < std < 0.025 for std in places.values()), places
    assert all(std > 0.1 for std in words.values()), words

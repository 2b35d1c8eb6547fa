"""Where InterBERT draws dropout: its code gives the layers of regions another rate than their attention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pairloom.loader import Loader
from pairloom.loader import tokenizer as tokenizers
from systems import recipes
from tests.pairloom.loader.loading import WORDS, write_folder
from trainer.learner import Learner, shapes_of

SMALL = {
    "hidden": 48, "layers": 2, "heads": 4, "feed_forward": 96,
    "words_alone": {"layers": 1, "heads": 4, "feed_forward": 96},
    "regions_alone": {"layers": 1, "heads": 4, "feed_forward": 96},
}  # fmt: skip


def test_regions_of_interbert_have_a_rate_for_attention_and_one_for_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of bert_config.json and the code's region layers: 0.1 everywhere, but 0.2 behind the layers of regions."""
    drawn: list[float] = []
    attention, dropout = torch.nn.functional.scaled_dot_product_attention, torch.nn.functional.dropout

    def attended(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **settings: Any) -> torch.Tensor:
        drawn.append(settings["dropout_p"])
        return attention(query, key, value, **settings)

    def dropped(values: torch.Tensor, p: float, training: bool, inplace: bool) -> torch.Tensor:
        drawn.append(p if training else 0.0)
        return dropout(values, p, training, inplace)

    recipe = recipes.load("interbert", "base", {"model": {"interaction": SMALL}})
    tokenizer = tokenizers.train([" ".join(WORDS)], recipe.text)
    loader = Loader(write_folder(tmp_path, (9,)), recipe, tokenizer, batch_size=4)
    learner = Learner(recipe, shapes_of(recipe, tokenizer, loader.metadata())).train()
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attended)
    monkeypatch.setattr(torch.nn.functional, "dropout", dropped)
    learner.model(next(iter(loader)))
    joint, words, regions = [0.1, 0.1, 0.1], [0.1, 0.1, 0.1], [0.1, 0.2, 0.2]  # attention, behind it, feed-forward
    assert drawn == [0.1, 0.1, *joint, *joint, *words, *regions, 0.1]

"""Shards of scenes, and checkpoints of models that nothing was taught: what they say is the same every time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pairloom.loader import tokenizer as tokenizers
from pairloom.loader.rows import open_rows
from systems import recipes
from tests.evaluation.scenes import write_scenes
from trainer import checkpoint
from trainer.learner import Learner, shapes_of

SYSTEMS = ("uniter", "oscar", "clip", "vilt", "villa", "lexical")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Models as small as these are slower on several threads, and far slower on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes") / "shards", train=192, val=48, test=24)


@pytest.fixture(scope="session")
def checkpoints(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Of models that read pairs, pairs with tags, of two towers, of pixels, and of none that matches."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for name in SYSTEMS:
        write_untrained(name, shards, folder / name)
    return {name: folder / name for name in SYSTEMS}


def write_untrained(name: str, shards: Path, out: Path) -> None:
    recipe = recipes.load(name, "tiny")
    rows = open_rows(shards, "train", tuple(sorted({*recipe.columns(), "qa"})), ())
    tokenizer = tokenizers.train(rows.texts(), recipe.text)
    torch.manual_seed(0)
    learner = Learner(recipe, shapes_of(recipe, tokenizer, rows.metadata()))
    told = {"objectives": {}, "retrieval": None, "steps": 0, "batch_size": 0, "seed": 0, "rows": {"train": 0, "val": 0}}
    checkpoint.save(out, learner, tokenizer, told)

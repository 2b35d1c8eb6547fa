"""Checkpoints of our own: a trained clip tells true captions from swapped ones. A mural scores as its learner does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.metrics import roc_auc_score

from pairloom.errors import InputError
from pairloom.loader.batch import Example
from pairloom.loader.collate import collate
from schemas.shards import SHARDS
from stages import negatives, score
from systems import checkpoints
from systems.units import pixels
from tests.building import training_shard, write_table
from tests.stages.memory import InMemory
from tests.stages.score.test_score import pairs
from tests.trainer.test_learning import METADATA, THINGS, lesson, picture
from tests.training import train
from trainer import loop

CAPTIONS = [f"a photo of a {thing}" for thing in THINGS]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    splits = (("train", range(48)), ("val", range(48, 64)))
    made = {f"{split}-00000": training_shard([lesson(row) for row in rows], split, METADATA) for split, rows in splits}
    return write_table(tmp_path_factory.mktemp("shards"), SHARDS, made)


def trained(recipe: str, steps: int, shards: Path, out: Path) -> Path:
    result = train(recipe, shards, loop.Config(steps=steps, batch_size=16, lr=1e-3, threads=1, device="cpu"))
    loop.save(result, out, None)
    return out


def scored(model: Path, captions: list[list[str]]) -> list[list[float]]:
    table: pa.Table = pairs([picture(kind) for kind in range(len(THINGS))], captions)
    done, rejects = score.process(table, score.setup(score.Config(model=str(model), device="cpu"), Path()))
    assert len(rejects) == 0
    found: list[list[float]] = done["similarity"].to_pylist()
    return found


def test_a_trained_clip_tells_true_captions_from_swapped_ones(shards: Path, tmp_path: Path) -> None:
    model = trained("clip", 60, shards, tmp_path / "clip")
    values = np.array(scored(model, [CAPTIONS] * len(THINGS)))
    assert roc_auc_score(np.eye(len(THINGS)).ravel(), values.ravel()) > 0.9


def test_scores_are_those_of_the_learners_own_towers(shards: Path, tmp_path: Path) -> None:
    model = trained("mural", 1, shards, tmp_path / "mural")
    values = np.array(scored(model, [CAPTIONS] * len(THINGS)))
    learner, tokenizer = checkpoints.load(model)
    settings = learner.recipe.units.settings
    assert isinstance(settings, pixels.Settings)
    rows = [
        Example(b"", 0, tokenizer.words(text), pixels.decode(picture(kind), settings, None))
        for kind, text in enumerate(CAPTIONS)
    ]
    with torch.no_grad():
        both = learner.model(collate(rows, tokenizer.pad))
    np.testing.assert_allclose(values, (both.images_BE @ both.texts_BE.T).numpy(), atol=1e-4)


def test_a_recipe_without_towers_is_refused(shards: Path, tmp_path: Path) -> None:
    model = trained("uniter", 1, shards, tmp_path / "uniter")
    with pytest.raises(InputError, match="recipe uniter has no tower"):
        score.setup(score.Config(model=str(model), device="cpu"), Path())


def test_veto_score_takes_what_is_true_out_of_the_negatives_and_little_else(shards: Path, tmp_path: Path) -> None:
    """Of pictures whose own caption says nothing of what is in them, captions of others that name it are true."""
    model = trained("clip", 60, shards, tmp_path / "clip")
    kinds = [number % len(THINGS) for number in range(64)]
    captions = [CAPTIONS[kind] if number // 8 % 2 else f"photo {number}" for number, kind in enumerate(kinds)]
    table = pairs([picture(kind) for kind in kinds], [[text] for text in captions])
    config = score.Config(model=str(model), device="cpu", image_embedding=True, text_embedding=True)
    scores, _ = score.process(table, score.setup(config, Path()))
    values = np.array(scored(model, [CAPTIONS] * len(THINGS)))
    own, others = values.diagonal().mean(), values[~np.eye(len(THINGS), dtype=bool)].mean()
    corpus = InMemory("curate", [table.slice(0, 20), table.slice(20)])
    corpus.others["score"] = {"00000": scores.slice(0, 20), "00001": scores.slice(20)}

    def judged(**rule: Any) -> tuple[int, set[tuple[int, str]]]:
        """(negatives that name what is in the picture, the (picture, text) of those that name something else)."""
        rules = negatives.Config(top_k=30, near_distance=None, **rule)
        folder = tmp_path / str(rules.veto)
        folder.mkdir()
        negatives.index(corpus, rules, folder)
        tools = negatives.setup(rules, folder)
        beside = [scores] if rules.veto == "score" else []
        found = negatives.process(table, *beside, tools)["negatives"].to_pylist()
        named = [(n, one["text"]) for n, (own,) in enumerate(found) for one in own if one["text"] in CAPTIONS]
        true = [CAPTIONS.index(text) == kinds[number] for number, text in named]
        return sum(true), {one for one, wrong in zip(named, true, strict=True) if not wrong}

    before, good = judged()
    after, left = judged(veto="score", veto_similarity=float(own + others) / 2)
    assert before == 32
    assert after <= 0.1 * before
    assert len(good - left) < 0.1 * len(good)

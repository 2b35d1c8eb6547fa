"""Every recipe learns 16 rows by heart in each of its objectives, and forgets them when the pictures change places.

A caption names the colour and the kind of one of three things in its picture. No two of these rows have the same
caption, and four have each colour and four each kind, so hidden words can be told from the picture alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pairloom.loader import Loader
from pairloom.loader.batch import Batch, map_tensors
from schemas.shards import SHARDS
from systems import recipes
from systems.grids import cells_of
from systems.objectives.itm import with_second_text
from tests.building import negative, training_shard, write_table
from tests.evaluation import scenes
from tests.pairloom.loader.loading import PATCHED, patches
from trainer import optimise
from trainer.learner import Learner, shapes_of
from trainer.precision import Arithmetic

ROWS = 16
GERMAN = {
    "dog": "Hund", "cup": "Tasse", "bus": "Bus", "tree": "Baum",
    "red": "roter", "green": "grüner", "blue": "blauer", "white": "weißer",
}  # fmt: skip
# Where a test in seconds needs other settings than size tiny has: more steps, a smaller picture, more to predict.
SETTINGS: dict[str, dict[str, Any]] = {
    "align": {"training": {"steps": 30}},
    "mural": {"training": {"steps": 40, "lr": 4.0e-3}},
    "clip": {"training": {"steps": 40}, "units": {"pixels": {"size": 48}}},
    "e2e_vlp": {"training": {"steps": 100, "lr": 2.0e-3}},
    "lxmert": {"training": {"steps": 120}, "objectives": {"qa": {"share": 0.7}, "mlm": {"probability": 0.4}}},
    "mlim": {"training": {"steps": 100, "lr": 3.0e-3}},
    "simvlm": {"training": {"steps": 160, "lr": 3.0e-3}},
    "unimo": {"training": {"steps": 120, "lr": 2.0e-3}, "model": {"single_stream": {"layers": 1}}},
    "vilbert": {"objectives": {"mlm": {"probability": 0.4}}},
    "villa": {"training": {"steps": 60, "lr": 2.0e-3}, "model": {"single_stream": {"layers": 1}}},
}
STEPS = 60
# Batch norms that are trained have means of their own in evaluation, which so few steps do not bring near.
IN_TRAINING = ("align", "mural")
# (share of right predictions afterwards, at least; None: right and wrong mean little there, and the loss decides)
RIGHT: dict[tuple[str, str], float | None] = {
    ("align", "contrastive"): 0.5,
    ("mural", "contrastive"): 0.5,
    ("mural", "translation"): 0.4,
    ("e2e_vlp", "detection"): None,
    ("unimo", "cmcl"): 0.4,
    ("unimo", "text_alone"): 0.6,
    ("villa", "mrc"): 0.6,
    ("vit", "colours"): 0.3,
}
FALLEN = 0.6  # the loss afterwards is below this share of what it was
SLOWLY = {("unimo", "cmcl"): 0.85, ("mlim", "reconstruction"): 0.7}
REGRESSIONS = ("mrfr", "patch_kl", "grey", "blank", "reconstruction")
# What has no picture with its text, so that other pictures change nothing.
WITHOUT = {("lexical", "mlm"), ("mural", "translation"), ("unimo", "image_alone"), ("unimo", "text_alone")}


@dataclass(frozen=True)
class Measured:
    """Of one objective on its rows."""

    loss: float
    right: float | None


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    first: dict[tuple[str, str], int] = {}
    for number in range(400):
        colour, thing, _ = scenes.scene(number)[0]
        first.setdefault((colour, thing), number)
    assert len(first) == ROWS
    made = training_shard([row(number) for number in first.values()], "train", scenes.METADATA | PATCHED)
    return write_table(tmp_path_factory.mktemp("rows") / "shards", SHARDS, {"train-00000": made}, indexed=True)


def row(number: int) -> dict[str, Any]:
    colour, thing, _ = scenes.scene(number)[0]
    texts = [(f"a {colour} {thing}", "en"), (f"ein {GERMAN[colour]} {GERMAN[thing]}", "de")]
    other = scenes.scene(number + 1)[0]
    own = {
        "captions": [{"text": text, "original": text, "lang": lang} for text, lang in texts],
        "negatives": [[negative(f"a {other[0]} {other[1]}")]] * 2,
        "short": [29] * 2,
    }
    return scenes.row(number) | patches(number) | own


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_learns_its_rows_by_heart_and_the_pictures_matter(name: str, shards: Path) -> None:
    learner, fixed = prepared(name, shards)
    before = measured(learner, fixed)
    optimiser, schedule = optimise.updates(learner)
    learner.train()
    for _ in range(learner.recipe.training.steps):
        for batch in fixed.values():
            optimise.take_step(learner, batch, optimiser, schedule, Arithmetic())
    after = measured(learner, fixed)
    moved = measured(learner, {kind: with_other_pictures(batch) for kind, batch in fixed.items()})
    assert set(after) == set(learner.recipe.objectives)
    for objective in after:
        told = f"{name}, {objective}: {before[objective]} before, {after[objective]} after, {moved[objective]} moved"
        assert is_learned((name, objective), before[objective], after[objective]), told
        if (name, objective) in WITHOUT:
            assert moved[objective].loss == pytest.approx(after[objective].loss, rel=1e-3), told
        else:
            assert is_worse(objective, before[objective].loss, after[objective].loss, moved[objective].loss), told


def is_learned(which: tuple[str, str], before: Measured, after: Measured) -> bool:
    least = None if which[1] in REGRESSIONS else RIGHT.get(which, 0.8)
    right = least is None or after.right is None or after.right >= least
    return right and after.loss < SLOWLY.get(which, FALLEN) * before.loss


def is_worse(objective: str, before: float, after: float, moved: float) -> bool:
    """By more than a share of what was gained, or three times as large, where hardly anything was left.

    What a region or patch looks like can be told from the rest of its picture, too, so that words weigh less there.
    """
    share = 1 / 60 if objective in REGRESSIONS else 1 / 30
    return moved - after > share * (before - after) or moved > 3 * after > 0


def prepared(name: str, shards: Path) -> tuple[Learner, dict[str, Batch]]:
    """An untrained learner, and one batch of all rows for each kind of its steps."""
    torch.manual_seed(0)
    own = SETTINGS.get(name, {})
    training = {"steps": STEPS, "batch_size": ROWS} | own.get("training", {})
    recipe = recipes.load(name, "tiny", own | {"training": training})
    loader = Loader(shards, recipe, batch_size=ROWS)
    learner = Learner(recipe, shapes_of(recipe, loader.tokenizer, loader.metadata()))
    fixed: dict[str, Batch] = {}
    for batch in loader:
        fixed.setdefault(batch.objective, batch)
        if len(fixed) == len(learner.kinds):
            break
    return learner, {kind: with_cells(learner, batch) for kind, batch in fixed.items()}


def with_cells(learner: Learner, batch: Batch) -> Batch:
    """What a frozen network makes of the pictures, once instead of in every step, where the model takes it."""
    backbone = getattr(learner.model, "backbone", None)
    if learner.recipe.name != "e2e_vlp" or backbone is None:
        return batch
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    with torch.no_grad():
        return replace(batch, cells=cells_of(batch, backbone.eval()))


@torch.no_grad()
def measured(learner: Learner, fixed: dict[str, Batch]) -> dict[str, Measured]:
    learner.train(learner.recipe.name in IN_TRAINING)
    found = {}
    for kind, batch in fixed.items():
        torch.manual_seed(0)
        for name, scored in learner.losses(learner.kinds[kind], batch).parts.items():
            right = None if scored.right is None else float(scored.right) / max(float(scored.count), 1)
            found[name] = Measured(float(scored.loss), right)
    return found


def with_other_pictures(batch: Batch) -> Batch:
    """Each row with the next one's picture, and with the tags that belong to that. Texts and targets stay."""
    order = torch.arange(len(batch)).roll(1)

    def moved(part: Any) -> Any:
        if part is None or isinstance(part, Tensor):
            return part if part is None else part[order]
        return map_tensors(part, lambda tensor: tensor[order])

    words = batch.words
    if words.segments_BT.any() and not batch.causal:
        words = with_second_text(words, moved(words))
    return replace(
        batch,
        words=words,
        regions=moved(batch.regions),
        pixels_B3SS=moved(batch.pixels_B3SS),
        pixel_mask_BSS=moved(batch.pixel_mask_BSS),
        cells=moved(batch.cells),
        apart=tuple(with_other_pictures(part) for part in batch.apart),
    )

"""Training on a GPU gives the curve of the CPU, in each precision, and goes on after a kill to the same weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pairloom.loader import Loader, Options
from pairloom.loader.batch import Batch, map_tensors
from pairloom.loader.rows import open_rows
from systems import recipes
from tests.pairloom.loader.loading import write_folder
from tests.trainer.test_curves import CLOSE, CONFIG, losses
from tests.training import train
from trainer import optimise, state
from trainer.learner import Learner
from trainer.precision import Precision

# one or two streams of regions, pixels, several passes a step, an encoder and a decoder, a grid of a CNN
SOME = ("interbert", "lxmert", "clip", "villa", "simvlm", "e2e_vlp")
HOST, DEVICE = (replace(CONFIG, device=name) for name in ("cpu", "cuda"))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("shards"), (9, 8), splits=("train", "val"), patched=True)


@pytest.mark.parametrize("recipe", recipes.names())
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_recipe_trains_on_a_gpu(recipe: str, precision: Precision, shards: Path) -> None:
    """A loss that is not finite stops a training."""
    train(recipe, shards, replace(DEVICE, steps=6, batch_size=8, precision=precision))


@pytest.mark.parametrize("recipe", SOME)
def test_a_gpu_gives_the_curve_of_the_cpu(recipe: str, shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To 1 % of each loss at every step, without dropout, whose draws are the device's own."""
    monkeypatch.setattr(torch.nn.functional, "dropout", lambda x, *_, **__: x)
    monkeypatch.setattr(torch.nn.Dropout, "forward", lambda self, x: x)
    on_cpu, on_gpu = (losses(train(recipe, shards, config).curve) for config in (HOST, DEVICE))
    assert on_gpu.keys() == on_cpu.keys()
    for name in on_cpu:
        np.testing.assert_allclose(on_gpu[name], on_cpu[name], rtol=0.01, atol=0.01, err_msg=name)


@pytest.mark.parametrize("precision", CLOSE)
def test_short_numbers_give_the_curve_of_float32(precision: Precision, shards: Path) -> None:
    wanted, found = (
        losses(train("interbert", shards, replace(DEVICE, precision=one)).curve) for one in ("float32", precision)
    )
    assert found != wanted
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], rtol=2 * CLOSE[precision], atol=0.02, err_msg=name)


@pytest.mark.crash
def test_a_killed_float16_run_goes_on_to_the_same_weights(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(DEVICE, precision="float16", save_every_s=0)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        whole = train("clip", shards, config, out=tmp_path / "whole")
        kept = state.Keeper.save_if_due

        def killed(self: state.Keeper, run: state.Run, step: int) -> None:
            kept(self, run, step)
            if step == 3:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(state.Keeper, "save_if_due", killed)
            with pytest.raises(KeyboardInterrupt):
                train("clip", shards, config, out=tmp_path / "again")
        again = train("clip", shards, config, out=tmp_path / "again")
    finally:
        torch.use_deterministic_algorithms(False)
    for (name, one), other in zip(whole.learner.state_dict().items(), again.learner.state_dict().values(), strict=True):
        assert torch.allclose(one.float(), other.float(), rtol=1e-4, atol=1e-5), name


@pytest.mark.parametrize("workers", [0, 2])
def test_pinned_batches_are_page_locked_and_the_same(shards: Path, workers: int) -> None:
    recipe = recipes.load("interbert", "tiny")

    def batches(pin: bool) -> list[Batch]:
        rows = open_rows(shards, "train", recipe.columns(), recipe.text.languages)
        loader = Loader(rows, recipe, batch_size=8, workers=workers, options=Options(pin=pin))
        try:
            return [map_tensors(batch, keep) for _, batch in zip(range(3), loader, strict=False)]
        finally:
            loader.close()

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        places.append(tensor.is_pinned())
        return tensor.clone()

    places: list[bool] = []
    plain = batches(False)
    assert not any(places)
    places.clear()
    pinned = batches(True)
    assert all(places)
    for one, other in zip(plain, pinned, strict=True):
        assert one.words.input_ids_BT.equal(other.words.input_ids_BT)
        assert one.image_ids == other.image_ids


def test_the_trainer_asks_for_pinned_batches(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    step = optimise.take_step

    def watched(learner: Learner, batch: Batch, *rest: Any) -> dict[str, float]:
        seen.append(batch.words.input_ids_BT.is_pinned())
        return step(learner, batch, *rest)

    monkeypatch.setattr(optimise, "take_step", watched)
    train("clip", shards, replace(DEVICE, steps=2))
    assert seen == [True, True]

"""The same curve whatever a step is computed in, and on however many ranks: bfloat16, float16, two ranks over gloo."""

from __future__ import annotations

import csv
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from devices.ranks import World
from pairloom.errors import ConfigError
from tests.pairloom.loader.loading import write_folder
from tests.training import train
from trainer import loop
from trainer.precision import Precision

Losses = list[float]

HERE = Path(__file__).resolve().parents[2]
STEPS = 8
# interbert: unevenly many hidden words and regions a rank; clip: InfoNCE over all ranks; villa: several passes a step
TOGETHER = ("interbert", "clip", "villa")
CONFIG = loop.Config(size="tiny", steps=STEPS, batch_size=16, lr=5e-4, seed=3, threads=1, device="cpu")
CLOSE: dict[Precision, float] = {"bfloat16": 0.02, "float16": 0.004}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("shards"), (9, 8), splits=("train", "val"))


@pytest.fixture(scope="module")
def alone(shards: Path) -> Callable[[str], dict[str, Losses]]:
    """The curve of a recipe, trained once by one process."""
    return functools.cache(lambda recipe: losses(train(recipe, shards, CONFIG).curve))


@pytest.fixture(scope="module")
def two_ranks(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `pairloom train` of these recipes, one after the other on two ranks, has left its files."""
    folder = tmp_path_factory.mktemp("ranks")
    params = {"train": {name: asdict(CONFIG) for name in TOGETHER}}
    (folder / "params.yaml").write_text(json.dumps(params), encoding="utf-8")  # JSON is YAML
    commands = [["train", "--recipe", name, "--shards", str(shards), "--json"] for name in TOGETHER]
    script = f"from pipeline.cli import main\nfor command in {commands}:\n    assert main(command) == 0\n"
    (folder / "all.py").write_text(script, encoding="utf-8")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {"PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*torchrun, "all.py"], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count('"checkpoint"') == len(TOGETHER)  # the first rank alone tells
    return folder


def losses(curve: Sequence[Mapping[str, Any]]) -> dict[str, Losses]:
    """The losses of each objective, step by step. Those whose turn never came are left out."""
    names = [name for name in curve[0] if name != "step" and curve[-1][name] not in (None, "")]
    return {name: [float(point[name]) for point in curve] for name in names}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", TOGETHER)
def test_two_ranks_give_the_curve_of_one(
    recipe: str, alone: Callable[[str], dict[str, Losses]], two_ranks: Path
) -> None:
    """To 1e-4 of each loss at every step: the order of sums is another."""
    with (two_ranks / "plots" / f"train-{recipe}.csv").open(encoding="utf-8") as file:
        found = losses(list(csv.DictReader(file)))
    wanted = alone(recipe)
    assert found.keys() == wanted.keys()
    for name in wanted:
        assert len(found[name]) == STEPS
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("precision", CLOSE)
def test_short_numbers_give_the_curve_of_float32(
    precision: Precision, shards: Path, alone: Callable[[str], dict[str, Losses]]
) -> None:
    """To 2 % (bfloat16, with 8 bits) or 0.4 % (float16, with 11) of each loss at every step."""
    found = losses(train("interbert", shards, replace(CONFIG, precision=precision)).curve)
    wanted, close = alone("interbert"), CLOSE[precision]
    assert found != wanted  # something was computed in short numbers
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], rtol=close, atol=close, err_msg=name)


def test_a_batch_that_ranks_cannot_share_equally_is_refused() -> None:
    with pytest.raises(ConfigError, match="a batch of 9 rows on 2 ranks"):
        World(size=2).check(9)
    World(size=3).check(9)

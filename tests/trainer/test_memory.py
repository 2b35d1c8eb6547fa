"""Less memory, the same weights: batches read in parts, layers computed again, layers compiled."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from devices.memory import joined, layers_of, read_in_parts, recompute
from pairloom.loader import Loader
from pairloom.loader.batch import Batch
from systems import recipes
from tests.pairloom.loader.loading import write_folder
from tests.training import train
from trainer import loop
from trainer.contract import Encoded, Shapes
from trainer.learner import Learner, shapes_of
from trainer.loop import TrainResult

# Rows of these see each other: by batch norms that are trained, a dictionary, other rows' regions or patches
SEE_EACH_OTHER = ("align", "mural", "soho", "lxmert", "vit")
ALONE = [name for name in recipes.names() if name not in SEE_EACH_OTHER]
CONFIG = loop.Config(steps=3, batch_size=8, lr=5e-4, threads=1, device="cpu")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("shards"), (9, 8), splits=("train", "val"), patched=True)


@pytest.fixture
def no_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its draws differ where a batch is read in parts."""
    monkeypatch.setattr(nn.functional, "dropout", lambda values, *_, **__: values)
    monkeypatch.setattr(nn.Dropout, "forward", lambda self, values: values)


@pytest.fixture(scope="module")
def at_once(shards: Path) -> Callable[[str], TrainResult]:
    return functools.cache(lambda name: train(name, shards, CONFIG))


def losses(result: TrainResult) -> np.ndarray[Any, Any]:
    points = [[value for key, value in point.items() if key != "step"] for point in result.curve]
    return np.array(points, float)


@pytest.mark.parametrize("name", ALONE)
def test_three_parts_of_a_batch_give_the_losses_of_the_whole_batch(
    name: str, shards: Path, no_dropout: None, at_once: Callable[[str], TrainResult]
) -> None:
    """To 1e-5 at every step: means over unequally many hidden words, InfoNCE, adaptive weights, adversarial passes."""
    found = train(name, shards, replace(CONFIG, accumulate=3))
    np.testing.assert_allclose(losses(found), losses(at_once(name)), rtol=1e-5, atol=1e-6)


@settings(max_examples=4, derandomize=True, deadline=None)
@given(parts=st.integers(2, 11), seed=st.integers(0, 99))
def test_the_weights_are_those_of_the_whole_batch(parts: int, seed: int, shards: Path) -> None:
    """However many parts, more than rows too. Adam turns a rounding of a gradient near 0 into a step: so ε is large."""
    changes = {"training": {"eps": 1e-3, "steps": 3, "batch_size": 8, "lr": 1e-3}, "only": ["mlm"], "retrieval": None}
    recipe = recipes.load("uniter", "tiny", changes)  # tiny has no dropout
    config = replace(CONFIG, seed=seed)
    one, other = (loop.train(recipe, shards, replace(config, accumulate=count)) for count in (1, parts))
    for (name, wanted), found in zip(
        one.learner.state_dict().items(), other.learner.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("name", ["uniter", "soho", "align"])
def test_layers_that_are_computed_again_give_the_same_weights_bit_by_bit(
    name: str, shards: Path, at_once: Callable[[str], TrainResult]
) -> None:
    found = train(name, shards, replace(CONFIG, recompute=True))
    for one, other in zip(
        found.learner.state_dict().values(), at_once(name).learner.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other)


def test_a_dictionary_moves_once_a_part_and_not_again_in_the_backward_pass(shards: Path) -> None:
    moved: list[int] = []
    for parts in (1, 2):
        result = train("soho", shards, replace(CONFIG, steps=1, accumulate=parts))
        sizes = result.learner.model.dictionary.sizes_N
        moved.append(round(np.log(float(sizes.min())) / np.log(0.9)))  # an entry that nothing asks for
    assert moved == [1, 2]


def kept_bytes(model: nn.Module, *given: Any) -> int:
    """What a forward pass keeps for the backward pass, beside the weights."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(*given)
    return sum(size for place, size in kept.items() if place not in weights)


def learner_and_batch(shards: Path) -> tuple[Learner, Batch]:
    recipe = recipes.load("uniter", "tiny", {"only": ["mlm"], "retrieval": None, "text": {"vocab_size": 300}})
    with closing(Loader(shards, recipe, batch_size=16)) as loader:
        learner = Learner(recipe, shapes_of(recipe, loader.tokenizer, loader.metadata()))
        return learner, next(iter(loader))


@pytest.mark.parametrize("change", [recompute, lambda model: read_in_parts(model, 4)])
def test_less_is_kept_for_the_backward_pass(change: Callable[[nn.Module], None], shards: Path) -> None:
    learner, batch = learner_and_batch(shards)
    before = kept_bytes(learner, batch)
    change(learner.model)
    assert kept_bytes(learner, batch) < 0.5 * before


def test_layers_are_the_innermost_members_of_lists_that_have_parts() -> None:
    learner = Learner(recipes.load("lxmert", "tiny"), Shapes(300, 8, 15, 1, answers=("yes", "no")))
    assert len(layers_of(learner.model)) == 4  # one of words, one of regions, two across
    network = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()), nn.Sequential(nn.Linear(4, 4)))
    assert layers_of(network) == list(network)


def test_shorter_sequences_of_a_part_are_filled_with_nothing_seen() -> None:
    one, two = (
        Encoded(torch.ones(2, 3, 4), torch.ones(2, units, 4), torch.ones(2, units, dtype=torch.bool), torch.ones(2, 4))
        for units in (5, 2)
    )
    found: Encoded = joined([one, two])
    assert found.words_BTH.shape == (4, 3, 4)
    assert found.units_BU.tolist() == [[True] * 5] * 2 + [[True, True, False, False, False]] * 2
    assert float(found.units_BUH.sum()) == 4 * (2 * 5 + 2 * 2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # torch's own, while it translates
@pytest.mark.long
def test_translated_layers_give_the_losses_of_those_that_are_not(shards: Path) -> None:
    """One layer of uniter, which inductor translates for the CPU. It needs a C++ compiler, as torch.compile does."""
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler")
    changes = {
        "only": ["mlm"],
        "retrieval": None,
        "model": {"single_stream": {"layers": 1}},
        "training": {"steps": 3, "batch_size": 8},
    }
    recipe = recipes.load("uniter", "tiny", changes)
    one, other = (loop.train(recipe, shards, replace(CONFIG, compile=compiled)) for compiled in (False, True))
    np.testing.assert_allclose(losses(other), losses(one), rtol=1e-4)

"""A step of several passes: ViLT adds its losses in every step, on one batch of rows made ready once for each pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pairloom.errors import ConfigError
from pairloom.loader import Loader, Options
from pairloom.loader import tokenizer as tokenizers
from pairloom.loader.batch import IGNORE
from systems import recipes
from tests.pairloom.loader.loading import WORDS, write_folder
from tests.systems.test_systems import opened
from trainer.contract import Nudges


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("shards"), (9, 8))


def test_vilt_hides_words_beside_the_true_picture_and_matches_whole_texts(shards: Path) -> None:
    batch = next(iter(opened("vilt", shards, batch_size=16)[1]))
    (matching,) = batch.apart
    assert matching.image_ids == batch.image_ids
    assert not batch.mismatch_B.any()
    assert matching.mismatch_B.any()
    assert not matching.mismatch_B.all()
    assert (batch.words.labels_BT != IGNORE).any()
    assert (matching.words.labels_BT == IGNORE).all()
    hidden_BT = batch.words.labels_BT != IGNORE
    own_BT = torch.where(hidden_BT, batch.words.labels_BT, batch.words.input_ids_BT)
    assert torch.equal(own_BT, matching.words.input_ids_BT)  # a mismatch has another picture, and its own text


@settings(deadline=None, max_examples=4)
@given(step=st.integers(0, 30))
def test_gradients_are_the_sum_of_those_of_the_passes(shards: Path, step: int) -> None:
    """As ViLT's code has it: `total_loss = sum(losses)`, each from a forward pass of its own."""
    learner, loader = opened("vilt", shards)
    learner.eval()
    batch = next(batch for number, batch in enumerate(loader) if number == step)
    together = learner(batch)
    together.loss.backward()
    found = {name: value.grad.clone() for name, value in learner.named_parameters() if value.grad is not None}
    learner.zero_grad()
    kind = learner.kinds["pretrain"]
    total: Any = 0.0
    for name, rows in (("mlm", batch), ("itm", batch.apart[0])):
        encoded, part = learner.model(rows), kind[name]
        total = total + part.objective.loss(learner.model, encoded, learner.heads[name], rows, part.settings).loss
    torch.testing.assert_close(together.loss, total)
    total.backward()
    for name, value in learner.named_parameters():
        if value.grad is not None:
            torch.testing.assert_close(found[name], value.grad, rtol=1e-4, atol=1e-6)


REGIONS: dict[str, Any] = {"itm": {"step": "all", "apart": True}, "mlm": {"step": "all"}}


def test_batches_of_so_many_tokens_count_the_longest_pass(shards: Path) -> None:
    """Where a pass has another text, whose length is not that of the first."""
    recipe = recipes.load("uniter", "tiny", {"text": {"vocab_size": 300}, "objectives": REGIONS, "only": [*REGIONS]})
    tokenizer = tokenizers.train([" ".join(WORDS)], recipe.text)
    loader = Loader(shards, recipe, tokenizer, batch_size=12, options=Options(max_tokens=96))
    for _, batch in zip(range(20), loader, strict=False):
        for rows in (batch, *batch.apart):
            assert rows.regions is not None
            longest = rows.words.input_ids_BT.shape[1] + rows.regions.mask_BR.shape[1]
            assert len(rows) * longest <= 96


def test_workers_bring_the_same_passes(shards: Path) -> None:
    recipe = recipes.load("vilt", "tiny", {"text": {"vocab_size": 300}})
    tokenizer = tokenizers.train([" ".join(WORDS)], recipe.text)
    alone = next(iter(Loader(shards, recipe, tokenizer, batch_size=4)))
    loader = Loader(shards, recipe, tokenizer, batch_size=4, workers=1)
    try:
        sent = next(iter(loader))
        assert torch.equal(sent.apart[0].words.input_ids_BT, alone.apart[0].words.input_ids_BT)
        np.testing.assert_array_equal(sent.apart[0].pixels_B3SS, alone.apart[0].pixels_B3SS)
    finally:
        loader.close()


def test_rows_are_taken_of_every_pass(shards: Path) -> None:
    batch = next(iter(opened("vilt", shards)[1]))
    taken = batch.take(torch.tensor([2, 0]))
    assert taken.apart[0].image_ids == (batch.image_ids[2], batch.image_ids[0])
    assert torch.equal(taken.apart[0].mismatch_B, batch.apart[0].mismatch_B[[2, 0]])


@pytest.mark.parametrize("objectives", [{"itm": {"apart": True, "step": ""}}, {"mlm": {"apart": True}}])
def test_a_step_without_a_first_pass_is_refused(objectives: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="no other objective of its step has a first pass"):
        recipes.load("vilt", "tiny", {"objectives": objectives})


def test_adversarial_training_of_several_passes_is_refused() -> None:
    with pytest.raises(ConfigError, match="perturbs one pass"):
        recipes.load("villa", "tiny", {"objectives": REGIONS})


def test_villas_step_is_its_loop_written_out(shards: Path) -> None:
    """Each of three passes: (loss + 1.5 KL with one clean pass) / 3, gradients added, the clean pass not detached."""
    learner, loader = opened("villa", shards)
    settings_ = learner.recipe.training.adversarial
    assert settings_ is not None
    from trainer import adversarial
    from trainer.precision import Arithmetic

    batch = next(b for b in iter(loader) if b.objective == "mlm")
    kind = learner.kinds["mlm"]
    learner.eval()
    for part in learner.modules():  # dropout, the same for both, so that clean and first pass differ
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.1
    learner.train()
    torch.manual_seed(3)
    adversarial.backward(learner, batch, settings_, Arithmetic())
    found = {name: value.grad.clone() for name, value in learner.named_parameters() if value.grad is not None}
    learner.zero_grad()
    torch.manual_seed(3)
    clean = learner.losses(kind, batch).parts["mlm"].logits
    assert clean is not None
    assert batch.regions is not None
    words = torch.zeros(*batch.words.input_ids_BT.shape, 64, requires_grad=True)
    places = torch.zeros(batch.regions.features_BRD.shape, requires_grad=True)
    total: Any = 0.0
    for _ in range(3):
        words, places = words.detach().requires_grad_(), places.detach().requires_grad_()
        losses = learner.losses(kind, batch, Nudges(words, places))
        logits = losses.parts["mlm"].logits
        assert logits is not None
        p, q = clean.log_softmax(-1), logits.log_softmax(-1)
        kl = (torch.nn.functional.kl_div(q, p, log_target=True, reduction="sum")
              + torch.nn.functional.kl_div(p, q, log_target=True, reduction="sum"))  # fmt: skip
        assert kl > 0
        loss = (losses.loss + 1.5 * kl / len(p)) / 3
        steps = torch.autograd.grad(loss, (words, places), retain_graph=True)
        words, places = (
            nudge + 1e-2 * step / step.flatten(1).norm(dim=1).clamp(min=1e-8)[:, None, None]
            for nudge, step in zip((words, places), steps, strict=True)
        )
        total = total + loss
    total.backward()
    for name, value in learner.named_parameters():
        if value.grad is not None:
            torch.testing.assert_close(found[name], value.grad, rtol=2e-3, atol=1e-6, msg=name)


def test_the_first_pass_is_compared_too(shards: Path) -> None:
    learner, loader = opened("villa", shards, training={"adversarial": {"steps": 1}})
    recipe = learner.recipe
    from trainer import adversarial
    from trainer.precision import Arithmetic

    batch = next(b for b in iter(loader) if b.objective == "mlm")
    for part in learner.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.1
    learner.train()
    assert recipe.training.adversarial is not None
    gradients = []
    for weight in (0.0, 1.5):
        learner.zero_grad()
        torch.manual_seed(3)
        if not weight:
            learner.losses(learner.kinds["mlm"], batch)  # the draws of the clean pass, or the second would have others
        adversarial.backward(learner, batch, replace(recipe.training.adversarial, kl=weight), Arithmetic())
        gradients.append(learner.heads["mlm"].bias_V.grad.clone())  # type: ignore[union-attr,operator]
    assert not torch.allclose(gradients[0], gradients[1])

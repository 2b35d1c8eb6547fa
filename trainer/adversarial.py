"""Adversarial training: what is added to the embeddings of words and regions is what raises the loss most."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from devices.ranks import mean_of_all
from pairloom.loader.batch import Batch
from trainer.contract import Nudges
from trainer.learner import Learner, Losses
from trainer.precision import Arithmetic, as_float32
from trainer.recipe import Adversarial

Norm = Literal["l2", "linf"]
FLOOR = 1e-8  # of a gradient's norm, as in the authors' code


def backward(learner: Learner, batch: Batch, settings: Adversarial, arithmetic: Arithmetic) -> Losses:
    """Gradients of one step, added over the passes. Returns the losses of the first, unperturbed pass."""
    both = settings.words and settings.regions and not settings.together
    kinds = [(True, False), (False, True)] if both else [(settings.words, settings.regions)]
    first: Losses | None = None
    for words, regions in kinds:
        losses = _passes(learner, batch, settings, (words, regions), 1 / len(kinds), arithmetic)
        first = first or losses
    assert first is not None
    return first


def _passes(
    learner: Learner,
    batch: Batch,
    settings: Adversarial,
    which: tuple[bool, bool],
    share: float,
    arithmetic: Arithmetic,
) -> Losses:
    """Each pass is compared with one clean pass, which has a dropout of its own, and a gradient: as in the code."""
    first: Losses | None = None
    clean: list[Tensor] = []
    if settings.kl > 0:
        with arithmetic.autocast():
            clean = logits_of(learner(batch))
    met = [logits.detach().requires_grad_() for logits in clean]  # gradients are gathered here, to go back once
    nudges = _nothing(learner, batch, *which)
    for _ in range(settings.steps):
        with arithmetic.autocast():
            losses: Losses = learner(batch, nudges)
            loss = losses.loss
            if met:
                loss = loss + settings.kl * symmetric_kl(met, logits_of(losses))
        arithmetic.backward(loss * share / settings.steps)
        first = first or losses
        nudges = Nudges(*(None if nudge is None else ascended(nudge, settings) for nudge in _parts(nudges)))
    gathered = [(logits, leaf.grad) for logits, leaf in zip(clean, met, strict=True) if leaf.grad is not None]
    if gathered:
        torch.autograd.backward([logits for logits, _ in gathered], [gradient for _, gradient in gathered])
    assert first is not None
    return first


def _parts(nudges: Nudges) -> tuple[Tensor | None, Tensor | None]:
    return nudges.words_BTH, nudges.regions_BRD


def _nothing(learner: Learner, batch: Batch, words: bool, regions: bool) -> Nudges:
    assert batch.regions is not None
    word = learner.model.word_weight
    shape = (*batch.words.input_ids_BT.shape, word.shape[1])
    word_nudge = torch.zeros(shape, device=word.device, requires_grad=True) if words else None
    shape = tuple(batch.regions.features_BRD.shape)
    region_nudge = torch.zeros(shape, device=word.device, requires_grad=True) if regions else None
    return Nudges(word_nudge, region_nudge)


def ascended(nudge: Tensor, settings: Adversarial) -> Tensor:
    """The perturbation one step up its gradient, of length lr in each row, and back inside the ball."""
    assert nudge.grad is not None
    moved = nudge.detach() + settings.lr * direction(nudge.grad, settings.norm)
    return inside(moved, settings.most, settings.norm).requires_grad_()


def direction(gradient: Tensor, norm: Norm) -> Tensor:
    """Each row's gradient, over all its tokens and dimensions, of length 1. 0 where there is none."""
    return gradient / _length(gradient, norm).clamp(min=FLOOR)


def inside(nudge: Tensor, most: float | None, norm: Norm) -> Tensor:
    """Rows longer than `most` shortened to it. `linf` cuts each number instead."""
    if most is None:
        return nudge
    if norm == "linf":
        return nudge.clamp(-most, most)
    return nudge * (most / _length(nudge, norm).clamp(min=FLOOR)).clamp(max=1)


def _length(rows: Tensor, norm: Norm) -> Tensor:
    flat = rows.flatten(1)
    lengths = flat.norm(dim=1) if norm == "l2" else flat.abs().amax(dim=1)
    return lengths[:, None, None]


def logits_of(losses: Losses) -> list[Tensor]:
    """The logits of the objectives that classify. A regression has no KL."""
    return [scored.logits for scored in losses.parts.values() if scored.logits is not None]


def symmetric_kl(one: list[Tensor], other: list[Tensor]) -> Tensor:
    """KL(one ‖ other) + KL(other ‖ one) in nats, mean over the predictions of each objective, added over objectives."""
    total = torch.zeros(())
    for first, second in zip(one, other, strict=True):
        p, q = (as_float32(logits).log_softmax(dim=-1) for logits in (first, second))
        summed = ((p.exp() - q.exp()) * (p - q)).sum()
        total = total + mean_of_all(summed / max(len(p), 1), torch.tensor(len(p)))
    return total

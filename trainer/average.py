"""`Average`: a moving average of the weights, which papers test and publish instead of the last ones."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from devices.parallel import Shared, like, whole
from trainer.learner import Learner


class Average:
    """After each step decay × itself + (1 − decay) × the weights, by torch's rule. It begins as the weights.

    In pieces as the learner is, so it is made after the learner was shared. Running means are not averaged.
    """

    def __init__(self, learner: Learner, decay: float) -> None:
        self.weights = {name: value for name, value in learner.named_parameters() if value.requires_grad}
        self.tensors = {name: value.detach().clone() for name, value in self.weights.items()}
        self._update = get_ema_multi_avg_fn(decay)

    def update(self) -> None:
        self._update(list(self.tensors.values()), list(self.weights.values()), 0)

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        for name, tensor in self.tensors.items():
            tensor.copy_(like(state[name], tensor))


def current(learner: Learner, shared: Shared, average: Average | None) -> Learner:
    """What is tested and saved: the learner, or another with its averaged weights, in one piece. All ranks call it."""
    if average is None and not shared.in_pieces:
        return learner
    state = learner.state_dict() | ({} if average is None else average.tensors)
    found = Learner(learner.recipe, learner.shapes)
    found.load_state_dict(whole(state))
    return found.to(next(learner.parameters()).device)

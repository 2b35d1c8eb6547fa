"""Ranks: processes that train one learner together, each on its part of every batch (torchrun starts them)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor, distributed, nn
from torch.distributed import PrefixStore, rendezvous  # type: ignore[attr-defined]

from pairloom.errors import ConfigError, RunError

ALONE: ContextVar[bool] = ContextVar("alone", default=False)
TIMES = count()  # that this process has joined others, as they have it


@dataclass(frozen=True)
class World:
    """This process among all: rank from 0 to size − 1, and which of its machine's it is."""

    rank: int = 0
    size: int = 1
    local: int = 0

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Losses and gradients are those of all ranks within. What a rank tests before or after, it tests alone."""
        if self.size == 1:
            yield
            return
        store, _, _ = next(rendezvous("env://"))
        # Under a name of its own: where a process trains twice, the store still has the addresses of the first time.
        # The same where torchrun has started it anew after a death.
        store = PrefixStore(f"training {os.environ.get('TORCHELASTIC_RESTART_COUNT')}.{next(TIMES)}", store)
        distributed.init_process_group(store=store, rank=self.rank, world_size=self.size)  # gloo on CPUs, nccl on GPUs
        try:
            yield
        finally:
            distributed.destroy_process_group()

    def check(self, batch_size: int) -> None:
        """Raises ConfigError where ranks would have unequal parts of a batch: InfoNCE gathers equally many rows."""
        if batch_size % self.size:
            raise ConfigError(
                f"a batch of {batch_size} rows on {self.size} ranks",
                where="training.batch_size, which counts the rows of all ranks",
                fix="make it a multiple of the ranks",
            )


def launched() -> World:
    """What torchrun says, which it does in the environment alone. One rank if it did not start this process."""
    if not distributed.is_available() or not distributed.is_torchelastic_launched():
        return World()
    return World(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))


def several() -> bool:
    """Whether there are other ranks now, and what is computed is computed with them."""
    joined = distributed.is_available() and distributed.is_initialized()
    return joined and distributed.get_world_size() > 1 and not ALONE.get()


def number() -> int:
    """This process's, from 0."""
    return distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0


@contextmanager
def alone() -> Iterator[None]:
    """Within, this rank computes as if there were no others: a test in the middle of a training."""
    before = ALONE.set(True)
    try:
        yield
    finally:
        ALONE.reset(before)


def of_first(answer: bool, device: torch.device) -> bool:
    """The first rank's answer, on every rank."""
    if not several():
        return answer
    told = torch.tensor(int(answer), device=device)
    distributed.broadcast(told, 0)
    return bool(told)


def mean_of_all(mean: Tensor, over: Tensor) -> Tensor:
    """The mean over the things of all ranks, of this rank's mean and how many things it is over (scalars)."""
    if not several():
        return mean
    over = over.to(mean.device, torch.float32)
    sums_2 = torch.stack([mean.detach().float() * over, over])
    distributed.all_reduce(sums_2)
    total, number = sums_2[0], sums_2[1].clamp(min=1)
    own_mean = mean * (over * distributed.get_world_size() / number)
    return own_mean + (total / number - own_mean).detach()  # the value of all, the gradient of this rank's part


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """The mean over ranks of every gradient. None where no rank has one.

    Here rather than by DistributedDataParallel, which wants one forward a backward: adversarial training has several,
    and which parameters a step uses differs from step to step.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not several() or not trained:
        return
    there = torch.tensor([parameter.grad is not None for parameter in trained], device=trained[0].device).int()
    distributed.all_reduce(there)
    gradients = []
    for parameter, ranks in zip(trained, there.tolist(), strict=True):
        if ranks:
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            gradients.append(parameter.grad)
    flat = nn.utils.parameters_to_vector(gradients)  # one message: a hundred small ones cost more
    distributed.all_reduce(flat)
    nn.utils.vector_to_parameters(flat / distributed.get_world_size(), gradients)


def agree(step: int, device: torch.device) -> None:
    """Raises RunError unless all ranks begin at this step."""
    if not several():
        return
    most_2 = torch.tensor([step, -step], device=device)
    distributed.all_reduce(most_2, op=distributed.ReduceOp.MAX)
    first, last = -int(most_2[1]), int(most_2[0])
    if first != last:
        raise RunError(
            f"some ranks would resume after step {last}, others after {first}",
            where="the saved state",
            fix="write --out to a disk that all ranks see, or remove the state",
        )

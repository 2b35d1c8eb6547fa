"""How ranks share the work of a step, and tensors that lie in pieces on all of them.

average: each has the whole model, and gradients are averaged after the backward pass (devices.ranks). ddp: the same
with DistributedDataParallel, which sends gradients while the rest of the backward pass runs. fsdp: FSDP2, where each
rank keeps its piece of every weight and of the optimiser's state. A layer's weights are there while it computes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_map

from devices import ranks

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

Parallel = Literal["average", "ddp", "fsdp"]


@dataclass(frozen=True)
class Shared:
    """A learner as all ranks train it."""

    forward: nn.Module  # what is called with a batch: the learner, or DDP around it
    late: tuple[nn.Parameter, ...]  # whose gradients nobody averages but us, after the backward pass
    parameters: tuple[nn.Parameter, ...]  # the learner's. To look for them takes 2 % of a small model's step
    in_pieces: bool = False  # whether each rank has a piece of the weights alone

    def mixed(self) -> AbstractContextManager[Any]:
        """To be entered for sums over weights that lie in pieces and others."""
        if not self.in_pieces:
            return nullcontext()
        from torch.distributed.tensor.experimental import implicit_replication

        return implicit_replication()


def alone(learner: nn.Module) -> Shared:
    """Without a wrapper: gradients are averaged if there are other ranks."""
    parameters = tuple(learner.parameters())
    return Shared(learner, parameters, parameters)


def shared(learner: nn.Module, how: Parallel, layers: Sequence[nn.Module]) -> Shared:
    """Within World.joined(), before there is an optimiser. layers: those that fsdp gathers one at a time."""
    if how == "average" or not ranks.several():
        return alone(learner)
    if how == "fsdp":
        late = _in_pieces(learner, layers)
        return Shared(learner, late, tuple(learner.parameters()), in_pieces=True)
    # Which heads a step uses differs, so unused ones are looked for. Each rank keeps running means of its own.
    around = DistributedDataParallel(
        learner, broadcast_buffers=False, find_unused_parameters=True, gradient_as_bucket_view=True
    )
    return Shared(around, (), tuple(learner.parameters()))


def _in_pieces(learner: nn.Module, layers: Sequence[nn.Module]) -> tuple[nn.Parameter, ...]:
    """FSDP2 around each layer and around all the rest. Returns what it does not take and each rank has whole.

    That is what has one number, and what lies in memory with channels last: the convolutions of a backbone.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard  # here, since it takes seconds to import

    device = next(learner.parameters()).device
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    left = tuple(one for one in learner.parameters() if one.dim() == 0 or not one.is_contiguous())
    for layer in (*layers, learner):
        fully_shard(layer, mesh=mesh, ignored_params=set(left))
    return left


def whole(state: Any) -> Any:
    """A tree of lists and dicts with its tensors in one piece in this rank's memory of the CPU. All ranks call it."""
    return tree_map(_whole, state)


def _whole(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    value = value.detach()
    return (value.full_tensor() if in_pieces(value) else value).to("cpu", copy=True)


def in_pieces(value: Tensor) -> TypeGuard[DTensor]:
    return hasattr(value, "full_tensor")


def like(value: Tensor, other: Tensor) -> Tensor:
    """The value, cut into pieces as the other is."""
    if not in_pieces(other) or in_pieces(value):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(other.device), other.device_mesh, other.placements, src_data_rank=None)


def load_weights(learner: nn.Module, state: Mapping[str, Tensor]) -> None:
    own = learner.state_dict()
    learner.load_state_dict({name: like(value, own[name]) for name, value in state.items()})


def load_optimiser(optimiser: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """What state_dict gave, of tensors in one piece. A moment has the shape of its parameter."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    if not any(in_pieces(parameter) for parameter in parameters):
        optimiser.load_state_dict(dict(state))
        return
    moments = {
        number: {
            key: like(value, parameters[number])
            if isinstance(value, Tensor) and value.shape == parameters[number].shape
            else value
            for key, value in kept.items()
        }
        for number, kept in state["state"].items()
    }
    optimiser.load_state_dict({**state, "state": moments})

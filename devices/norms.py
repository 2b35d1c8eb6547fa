"""Batch norms that see the batch of all ranks."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm

from devices import ranks
from pairloom.errors import ConfigError


def of_all_ranks(model: nn.Module) -> None:
    """Exchange norms for torch's SyncBatchNorm, or on a CPU, which that refuses, for the same arithmetic.

    Frozen norms stay as they are. Raises ConfigError for a norm of another library, which does more than torch's.
    """
    if not ranks.several():
        return
    on_cpu = next(model.parameters()).device.type == "cpu"
    for parent in list(model.modules()):
        for name, part in parent.named_children():
            if not isinstance(part, _BatchNorm) or not any(weight.requires_grad for weight in part.parameters()):
                continue
            if type(part) not in (nn.BatchNorm1d, nn.BatchNorm2d):
                given = f"a batch norm that is trained is a {type(part).__module__}.{type(part).__name__}"
                raise ConfigError(given, "train.sync_batch_norm", "freeze it, or leave the setting out")
            if on_cpu:
                part.forward = partial(_normed, part)  # type: ignore[method-assign]
            else:
                setattr(parent, name, nn.SyncBatchNorm.convert_sync_batchnorm(part))


def _normed(norm: _BatchNorm, values: Tensor) -> Tensor:
    """Batch normalisation with mean and variance over the ranks' values. Gradients go back to all of them."""
    if not norm.training or not ranks.several():
        found: Tensor = type(norm).forward(norm, values)
        return found
    over = [axis for axis in range(values.dim()) if axis != 1]
    shape = [1, -1] + [1] * (values.dim() - 2)
    long = values.float()
    count = all_reduce(torch.tensor(float(long.numel() // long.shape[1])))
    mean_C = all_reduce(long.sum(over)) / count
    centred = long - mean_C.view(shape)
    variance_C = all_reduce(centred.square().sum(over)) / count
    if norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None:
        norm.num_batches_tracked += 1
        share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        norm.running_mean.lerp_(mean_C.detach(), share)
        norm.running_var.lerp_(variance_C.detach() * count / (count - 1), share)  # Bessel's, as torch has it
    found = centred * torch.rsqrt(variance_C + norm.eps).view(shape)
    if norm.affine:
        found = found * norm.weight.view(shape) + norm.bias.view(shape)
    return found.to(values.dtype)

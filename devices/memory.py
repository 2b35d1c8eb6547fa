"""Less memory for more arithmetic, and compiled layers. Weights, and their names in a checkpoint, stay as they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields, is_dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from pairloom.loader.batch import Batch, map_tensors


def layers_of(model: nn.Module) -> list[nn.Module]:
    """What a model has several of: the members of its lists, innermost, that are made of parts themselves."""
    found: list[nn.Module] = []
    for part in model.children():
        inner = layers_of(part)
        if not inner and isinstance(model, (nn.ModuleList, nn.Sequential)) and any(part.children()):
            inner = [part] if any(True for _ in part.parameters()) else []
        found += inner
    return found


def recompute(model: nn.Module) -> None:
    """Keep what goes into each layer alone, and compute the rest again in the backward pass.

    Layers with a batch norm keep theirs: its running means would move twice.
    """
    for layer in layers_of(model):
        if not _has_batch_norm(layer):
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)


def compile_layers(model: nn.Module) -> None:
    """A layer at a time: lengths change with the longest text of a batch, and one code serves all layers of a kind.

    Layers with a batch norm are a backbone's, each of another shape: translating them takes minutes.
    """
    for layer in layers_of(model):
        if not _has_batch_norm(layer):
            layer.compile()


def _has_batch_norm(layer: nn.Module) -> bool:
    return any(isinstance(part, _BatchNorm) for part in layer.modules())


def read_in_parts(model: nn.Module, number: int) -> None:
    """Let the model read each batch in so many parts, one after the other, and each again in the backward pass.

    What it gives is put together again, so that objectives see the whole batch: a mean over hidden words is over all
    of the batch's, and InfoNCE has all rows as negatives. What the backward pass needs is there for one part at a time.
    Rows do not see each other in a model. Where they do (batch norms that are trained, a dictionary that follows the
    batch, the regions of other rows), they see those of their part.
    """
    whole = model.forward

    def forward(batch: Batch, *further: Any) -> Any:
        count = min(number, len(batch))
        if count == 1 or not torch.is_grad_enabled():
            return whole(batch, *further)
        ends = [len(batch) * part // count for part in range(count + 1)]
        parts = []
        for start, stop in pairwise(ends):
            given = [_rows(value, start, stop) for value in (batch, *further)]
            contexts = partial(_contexts, _moving(model))
            parts.append(checkpoint(whole, *given, use_reentrant=False, context_fn=contexts))
        return joined(parts)

    model.forward = forward


def _rows(value: Any, start: int, stop: int) -> Any:
    """These rows of a batch or of nudges, as views."""
    cut = map_tensors(value, lambda tensor: tensor[start:stop])
    if not isinstance(cut, Batch):
        return cut
    strings = {name: values[start:stop] for name, values in cut.strings.items()}
    return replace(cut, image_ids=cut.image_ids[start:stop], strings=strings)


def joined(parts: list[Any]) -> Any:
    """The rows of tensors, or of the tensors of dataclasses. Shorter sequences are filled up with 0."""
    first = parts[0]
    if is_dataclass(first) and not isinstance(first, type):
        names = [field.name for field in fields(first)]
        return replace(first, **{name: joined([getattr(part, name) for part in parts]) for name in names})
    if not isinstance(first, Tensor):
        return first
    longest = max(part.shape[1:2] for part in parts)
    return torch.cat([part if part.shape[1:2] == longest else _filled(part, longest[0]) for part in parts])


def _filled(rows: Tensor, length: int) -> Tensor:
    return torch.cat([rows, rows.new_zeros(len(rows), length - rows.shape[1], *rows.shape[2:])], dim=1)


def _moving(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """What a forward pass in training may change beside gradients (running means), each with its value now."""
    training = [part for part in model.modules() if part.training]  # frozen parts are not
    return [(buffer, buffer.clone()) for part in training for buffer in part.buffers(recurse=False)]


def _contexts(before: list[tuple[Tensor, Tensor]]) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Around the first pass, and around the second: that begins as the first did, and leaves no trace."""
    return nullcontext(), _as_before(before)


@contextmanager
def _as_before(before: list[tuple[Tensor, Tensor]]) -> Iterator[None]:
    now = [(buffer, buffer.clone()) for buffer, _ in before]
    _put(before)
    try:
        yield
    finally:
        _put(now)


@torch.no_grad()
def _put(values: list[tuple[Tensor, Tensor]]) -> None:
    for buffer, value in values:
        buffer.copy_(value)

"""What some originals call of TensorFlow and Paddle, by torch and by their names. Numbers are float64 throughout.

The operations are a few whose meaning is documented. The originals' own functions run on them as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.systems.originals.drawn import numbers

SCALE = 0.3  # of weights that are drawn


class Weights(dict[str, Tensor]):
    """Weights of an original by its own names, each drawn when it is first asked for.

    turned: those by which it multiplies from the right, drawn as torch has them. shared: names of one and the same.
    """

    def __init__(self, turned: Iterable[str] = (), shared: Mapping[str, str] | None = None) -> None:
        self.turned, self.shared = frozenset(turned), shared or {}

    def ask(self, asked: str, *shape: int) -> Tensor:
        name, turned = self.shared.get(asked, asked), asked in self.turned
        if name not in self:
            self[name] = numbers(name, *(reversed(shape) if turned else shape), scale=SCALE).requires_grad_()
        return self[name].t() if turned else self[name]


def normed(given: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-12) -> Tensor:
    return F.layer_norm(given, given.shape[-1:], weight, bias, eps)


def divergence(true: Tensor, predicted: Tensor) -> Tensor:
    """tf.keras.losses.KLD."""
    true, predicted = true.clamp(1e-7, 1), predicted.clamp(1e-7, 1)
    return (true * (true / predicted).log()).sum(dim=-1)


def crossed(labels: Tensor, logits: Tensor, from_logits: bool, label_smoothing: float) -> Tensor:
    """tf.keras.losses.categorical_crossentropy of logits."""
    assert from_logits
    smooth = labels * (1 - label_smoothing) + label_smoothing / labels.shape[-1]
    return -(smooth * logits.log_softmax(dim=-1)).sum(dim=-1)


def product(one: Tensor, other: Tensor, transpose_b: bool = False) -> Tensor:
    return one @ (other.t() if transpose_b else other)


def one_hot(ids: Tensor, depth: int, dtype: Any = None) -> Tensor:
    return F.one_hot(ids.long(), int(depth)).double()


def softmax(given: Tensor, axis: int = -1) -> Tensor:
    return given.softmax(dim=axis)


def log_softmax(given: Tensor, axis: int = -1) -> Tensor:
    return given.log_softmax(dim=axis)


def summed(given: Tensor, axis: Any = None) -> Tensor:
    return given.sum() if axis is None else given.sum(dim=axis)


REPLICA = SimpleNamespace(all_gather=lambda given, axis: given, replica_id_in_sync_group=torch.tensor(0))
TF = SimpleNamespace(
    newaxis=None, float32=torch.float64, int32=torch.int64, uint32=torch.int64,
    nn=SimpleNamespace(softmax=softmax, log_softmax=log_softmax, bias_add=torch.add,
                       l2_normalize=lambda given, axis: F.normalize(given, dim=axis)),
    math=SimpleNamespace(square=torch.square), keras=SimpleNamespace(
        losses=SimpleNamespace(KLD=divergence, categorical_crossentropy=crossed)),
    distribute=SimpleNamespace(get_replica_context=lambda: REPLICA), summary=SimpleNamespace(scalar=lambda *_: None),
    cast=lambda given, kind: given.to(kind), einsum=torch.einsum, expand_dims=torch.unsqueeze, matmul=product,
    gather=lambda table, ids: table[ids], multiply=torch.mul, one_hot=one_hot, range=torch.arange,
    reduce_mean=torch.mean, reduce_sum=summed, reshape=torch.reshape, shape=lambda given: given.shape,
    stack=torch.stack, stop_gradient=torch.detach,
)  # fmt: skip


class Layer:
    """easytransfer.layers.Layer. All layers share the weights that the class has been given."""

    drawn = Weights()

    def __init__(self, **_: Any) -> None:
        self.built = False

    def add_weight(self, name: str, shape: Any, **_: Any) -> Tensor:
        return self.drawn.ask(name, *shape)

    def build(self, _: Any) -> None:
        self.built = True

    def __call__(self, *given: Any, **settings: Any) -> Any:
        if not self.built:
            self.build(None)
        return self.call(*given, **settings)

    def call(self, *given: Any, **settings: Any) -> Any:
        raise NotImplementedError


def easytransfer(drawn: Weights) -> SimpleNamespace:
    """The package's `layers`, as far as models use it. Nothing is dropped."""

    def norm(given: Tensor, name: str) -> Tensor:
        width = given.shape[-1]
        return normed(given, drawn.ask(f"{name}.weight", width), drawn.ask(f"{name}.bias", width))

    def gathered(given: Tensor, places: Tensor) -> Tensor:
        rows = [row[place] for row, place in zip(given, places, strict=True)]
        return torch.cat(rows)

    kind = type("Layer", (Layer,), {"drawn": drawn})
    return SimpleNamespace(
        Layer=kind, LayerNormalization=norm, gather_indexes=gathered, get_initializer=lambda _: None,
        get_shape_list=lambda given: list(given.shape), Dropout=lambda _: lambda given, training: given,
    )  # fmt: skip

"""UNIMO's input (arXiv:2012.15409), by its code of fine-tuning: how words, regions and the whole image enter.

Pre-training's code was not released. This file was found by its text: the index does not say where it lies. Its reader,
which puts the mean of the regions in front, is not stored, so that is done here by hand.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from tests.systems.originals.drawn import Numbers, measured, numbers, whole
from tests.systems.originals.in_torch import Weights, normed
from tests.systems.originals.taking import Originals

REPOSITORY, COMMIT = "PaddlePaddle/Research", "not known"
B, T, R, H, D, V, PLACES = 2, 5, 3, 12, 6, 20, 8
EPS = 1e-5  # paddle.static.nn.layer_norm's, where none is named
NAMES = {"word_embedding": "word table", "pos_embedding": "position table"}


class Variable(Tensor):
    """Something, whatever its numbers are: the original asks for no more."""

    def __bool__(self) -> bool:
        return True


def word_ids() -> Tensor:
    return whole("word ids", V, B, T)


def features() -> Tensor:
    return numbers("features", B, R, D)


def boxes() -> Tensor:
    """(B, R, 7), of which UNIMO reads x1 y1 x2 y2 and the share of the area."""
    return numbers("boxes", B, R, 7).sigmoid()


def image() -> dict[str, Tensor]:
    """The whole image in front."""
    place = torch.tensor([0, 0, 1, 1, 1], dtype=torch.float64).expand(B, 1, 5)
    return {
        "image_embedding": torch.cat([features().mean(dim=1, keepdim=True), features()], dim=1),
        "loc_embedding": torch.cat([place, boxes()[..., [0, 1, 2, 3, 6]]], dim=1),
    }


def paddle(drawn: Weights) -> tuple[Any, Any]:
    """(paddle.fluid, pre_process_layer), as far as the input needs them."""

    def table(input: Tensor, size: list[int], param_attr: str, **_: Any) -> Tensor:
        return drawn.ask(NAMES[param_attr], *size)[input].as_subclass(Variable)

    def full(input: Tensor, size: int, param_attr: str, bias_attr: str, **_: Any) -> Tensor:
        return input @ drawn.ask(param_attr, input.shape[-1], size) + drawn.ask(bias_attr, size)

    def norm(given: Tensor, what: str, _: float, name: str) -> Tensor:
        assert what == "nd"
        return normed(given, drawn.ask(f"{name} weight", H), drawn.ask(f"{name} bias", H), EPS)

    layers = SimpleNamespace(
        embedding=table, fc=full, shape=lambda given: given.shape, scale=lambda x, **_: x,
        concat=lambda parts, axis: torch.cat(parts, dim=axis), stack=lambda x, axis: torch.stack(x, dim=axis),
    )  # fmt: skip
    return SimpleNamespace(layers=layers, ParamAttr=lambda name, initializer: name), norm


def run(folder: Path) -> tuple[Any, Numbers]:
    drawn = Weights({"image_emb.w_0", "image_loc.w_0"})
    fluid, norm = paddle(drawn)
    original = Originals(folder, REPOSITORY, COMMIT)
    original.put(fluid=fluid, layers=fluid.layers, pre_process_layer=norm)
    original.take("NLP/UNIMO/unimo_finetune.py", "UNIMOModel._gen_input")
    own = SimpleNamespace(
        text_adv_delta=None, image_adv_delta=None, _n_head=1, _emb_size=H, _emb_dtype=None, _param_initializer=None,
        _emb_vocab_size={"word_embedding": V, "pos_embedding": PLACES}, _prepostprocess_dropout=0.1,
        _image_emb_name="image_embedding", _loc_emb_name="loc_embedding", _input_type="vl",
    )  # fmt: skip
    ids = {"word_embedding": word_ids(), "pos_embedding": torch.arange(T).expand(B, T), "sent_embedding": None}
    entered = original._gen_input(own, ids, torch.ones(B, 1), image())[0]
    asked = torch.cat([numbers("asked regions", B, 1 + R, H), numbers("asked words", B, T, H)], dim=1)
    return original.facts(), measured((entered.as_subclass(Tensor) * asked).sum(), dict(drawn))

"""SOHO (arXiv:2104.03135): its three losses, and how its visual dictionary follows the cells.

Inputs of the losses are what the encoder is taken to give. The dictionary is its code's module as it is, on one GPU.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from tests.systems.originals.drawn import Numbers, leaf, measured, numbers, whole
from tests.systems.originals.taking import Originals

REPOSITORY, COMMIT = "researchmm/soho", "0c8b320fecce467dad153e6c6501562ab212b6d4"
B, T, U, H, V, N, DECAY, STEPS, CELLS = 3, 4, 5, 6, 20, 10, 0.4, 5, 40
HIDDEN_WORDS = torch.tensor([[0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]], dtype=torch.bool)
HIDDEN_CELLS = torch.tensor([[1, 0, 0, 1, 0], [0, 0, 0, 0, 0], [0, 1, 0, 0, 0]], dtype=torch.bool)
MATCH = torch.tensor([1, 0, 1])


def given() -> dict[str, Tensor]:
    return {"words": leaf("words", B, T, H), "cells": leaf("cells", B, U, H), "table": leaf("table", V, H),
            "itm": leaf("itm", 2, H)}  # fmt: skip


def word_ids() -> Tensor:
    return whole("word ids", V, B, T)


def codes() -> Tensor:
    return whole("codes", N, B, U)


def entries() -> Tensor:
    return numbers("entries", N, H)


def cells(step: int) -> Tensor:
    """(CELLS, H) float32, some of which move away from step to step."""
    return (numbers(f"cells {step}", CELLS, H) + step).float()


def run(folder: Path) -> tuple[Any, Numbers]:
    original = Originals(folder, REPOSITORY, COMMIT)
    original.put(concat_all_gather=lambda given: given, accuracy=lambda *_: 0,
                 dist=SimpleNamespace(get_world_size=lambda: 1, all_reduce=lambda given: None))  # fmt: skip
    original.take("SOHO/models/necks/utils.py", "ema_tensor_inplace", "sum_inplace", "laplace_smoothing", "SOHO_Pre_VD")
    original.take("SOHO/models/heads/soho_pre_head.py", "MLM_MVM_ITM_head.forward", "MLM_MVM_ITM_head.loss")
    original.take("SOHO/models/models/soho_singleStream_Pre.py", "SOHOSingleStreamPre.forward_train")
    return original.facts(), {"losses": losses(original), "dictionary": followed(original)}


def followed(original: Originals) -> Numbers:
    """After each step: the entries, the codes, and what the cells become."""
    dictionary = original.SOHO_Pre_VD(N, H, decay=DECAY).train()
    dictionary.embed.copy_(entries())
    found = {}
    for step in range(STEPS):
        mixed, chosen = dictionary(cells(step))
        found[str(step)] = summary(dictionary.embed, mixed, chosen.flatten())
    return found


def summary(entries_NH: Tensor, mixed: Tensor, chosen: Tensor) -> Numbers:
    asked = [numbers(name, *given.shape).float() for name, given in (("asked", entries_NH), ("mixed", mixed))]
    return {"entries": [float(entries_NH.norm()), float((entries_NH * asked[0]).sum())],
            "cells": [float(mixed.detach().norm()), float((mixed.detach() * asked[1]).sum())],
            "codes": torch.bincount(chosen, minlength=N).tolist()}  # fmt: skip


class Head:
    """The original's head, whose two methods are functions here."""

    def __init__(self, original: Originals, weight: Tensor) -> None:
        self.original, self.match_class = original, lambda first: first @ weight.t()
        self.criterion_mlm = self.criterion_mvm = self.criterion_itm = nn.CrossEntropyLoss(reduction="none")

    def __call__(self, fused: Tensor) -> Any:
        return self.original.forward(self, fused)

    def loss(self, *given: Any) -> Any:
        return self.original.scope["loss"](self, *given)


def losses(original: Originals) -> Numbers:
    encoded = given()
    fused = torch.cat([encoded["words"], encoded["cells"]], dim=1)
    vocabulary, labels = SimpleNamespace(embed=nn.Parameter(entries())), torch.where(HIDDEN_CELLS, codes(), -100)

    class Neck:
        vq = vocabulary

        def __call__(self, *_: Any) -> Any:
            return None, None, labels

    own = SimpleNamespace(forward_backbone=lambda img: [img], neck=Neck(), language=lambda *_, **__: fused,
                          mask_l_fc=lambda given: given @ encoded["table"].t(),
                          head=Head(original, encoded["itm"]))  # fmt: skip
    words = torch.where(HIDDEN_WORDS, word_ids(), -100)
    rows = [list(one.split(1)) for one in (word_ids(), words, MATCH, word_ids())]
    found = original.forward_train(own, torch.zeros(B, 1, 1, 1), None, *rows)
    each = {"mlm": found["loss_mlm"], "mvm": found["loss_mvm"], "itm": found["loss_match"].mean()}
    named = {name: float(loss.detach()) for name, loss in each.items()}
    return {"each": named, "all": measured(torch.stack(list(each.values())).sum(), encoded)}

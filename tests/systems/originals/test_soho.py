"""SOHO: the recipe's losses and its dictionary against the numbers of the original code."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from systems import recipes
from systems.dictionary import Dictionary, VisualDictionary
from systems.models.grid_stream import Coded
from tests.systems.originals import soho
from tests.systems.originals.drawn import agree, expected, fill, measured
from tests.systems.originals.ours import Model, batch_of, word_batch
from tests.systems.originals.soho import CELLS, DECAY, B, H, N, T, U, V
from trainer.contract import Shapes, Widths

WANTED = expected("soho")


class Coding(Model):
    """With the dictionary's entries."""

    dictionary = SimpleNamespace(entries_NH=soho.entries())


def test_three_losses() -> None:
    """The original adds 1e-6 to the numbers that it divides by, and ours compares with the entries in float32."""
    given, all_BT, all_BU = soho.given(), torch.ones(B, T) > 0, torch.ones(B, U) > 0
    model: Any = Coding(Widths(H, H, H), word_weight=given["table"])
    encoded: Any = Coded(given["words"], given["cells"], all_BU, given["words"][:, 0], soho.codes(), soho.HIDDEN_CELLS)
    rows = batch_of(word_batch(soho.word_ids(), all_BT, soho.HIDDEN_WORDS), soho.MATCH == 1)
    found, weights = {}, {name: given[name] for name in ("words", "cells", "table")}
    for name, part in recipes.load("soho").objectives.items():
        head = part.module.head(part.settings, model, Shapes(V))
        if name == "itm":
            weights |= fill(head, {"weight": "itm"}, scale=1.0)
        found[name] = part.weight * part.module.loss(model, encoded, head, rows, part.settings).loss
    agree({name: float(loss.detach()) for name, loss in found.items()}, WANTED["losses"]["each"], 1e-6)
    agree(measured(torch.stack(list(found.values())).sum(), weights), WANTED["losses"]["all"], 1e-6)


def test_the_dictionary_follows_the_cells() -> None:
    settings: Any = recipes.load("soho").model.settings
    assert (settings.dictionary.decay, settings.dictionary.start) == (DECAY, 0)
    dictionary = VisualDictionary(Dictionary(entries=N, decay=DECAY), H).train()
    dictionary.entries_NH.copy_(soho.entries())
    with torch.no_grad():  # so that the entry comes out as it is
        nn.init.eye_(dictionary.quantised.weight)
        for tensor in (dictionary.quantised.bias, dictionary.gate.weight):
            tensor.zero_()
        dictionary.gate.bias.copy_(torch.tensor([200.0, 0.0]))
    for step in range(soho.STEPS):
        mixed, codes, _ = dictionary(soho.cells(step)[None], torch.ones(1, CELLS) > 0, {})
        found = soho.summary(dictionary.entries_NH, mixed[0], codes[0])
        assert found.pop("codes") == WANTED["dictionary"][str(step)]["codes"]
        wanted = {name: WANTED["dictionary"][str(step)][name] for name in found}
        agree(found, wanted, 1e-5)

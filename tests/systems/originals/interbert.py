"""InterBERT (arXiv:2003.13198): its three losses, which words and regions it hides, and BertAdam's steps.

Its code is a fork of ViLBERT's, whose inputs it gets here.
"""

from __future__ import annotations

import abc
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from tests.systems.originals import rates, vilbert
from tests.systems.originals.drawn import Numbers, numbers
from tests.systems.originals.taking import Originals

REPOSITORY, COMMIT = "black4321/InterBERT", "7ccabb1251292943fb7d6e5e75af8892ae335fe7"
CLASS, FILE = "InterBertForMultiModalPreTraining", "bertmodel/modules.py"
DATA = "bertmodel/datasets/concept_cap_dataset.py"
STEPS, RISING, LR, DECAY, BETAS, EPS = 10, 0.3, 0.05, 0.01, (0.9, 0.999), 1e-6
BOXES = [[0, 0, 50, 50], [10, 0, 60, 50], [40, 0, 90, 50], [0, 60, 30, 90]]  # pixels of 100 × 100: IoU .67, .11, .25


def boxes() -> Any:
    """(R, 4) shares of the picture."""
    return np.array(BOXES, float) / 100


def run(folder: Path) -> tuple[Any, Numbers]:
    original = Originals(folder, REPOSITORY, COMMIT)
    vilbert.heads_of(original, FILE, CLASS)
    original.take(DATA, "iou_numpy", "BertPreprocessBatch.random_word", "BertPreprocessBatch.random_region")
    original.put(ABC=abc.ABC, abc=abc, logger=logging.getLogger(), Optimizer=torch.optim.Optimizer, required=None,
                 clip_grad_norm_=clip_grad_norm_)  # fmt: skip
    original.take("bertmodel/optimization.py", "_LRSchedule", "WarmupLinearSchedule")
    original.put(SCHEDULES={"warmup_linear": original.WarmupLinearSchedule})
    original.take("bertmodel/optimization.py", "BertAdam")
    found: Numbers = {"losses": vilbert.losses(original)}
    found |= {"hidden words": rates.tally(lambda length: hide_words(original, length)),
              "hidden regions": hidden_regions(original), "bert_adam": steps(original)}  # fmt: skip
    return original.facts(), found


def hide_words(original: Originals, length: int) -> tuple[list[bool], list[int]]:
    tokenizer = SimpleNamespace(vocab=rates.TOKENS)
    tokens, labels = original.random_word(None, [str(rates.WORD)] * length, tokenizer, span_mask=True)
    return [label != -1 for label in labels], rates.kinds_of(tokens)


def hidden_regions(original: Originals) -> Numbers:
    """How often each of four regions is hidden, of which the second overlaps the first by two thirds."""
    own, places = SimpleNamespace(visualization=False), np.pad(boxes(), ((0, 0), (0, 1)))
    rows = []
    for _ in range(rates.CAPTIONS):
        features = np.ones((len(places), 2))
        labels = original.random_region(own, features, places, len(places), True, image_w=100, image_h=100)[2]
        rows.append([label == 1 for label in labels])
    return {"each": np.mean(rows, axis=0).tolist()}


def weights() -> list[nn.Parameter]:
    """A matrix whose gradients are large, and a vector whose gradients are small."""
    return [nn.Parameter(numbers("matrix", 4, 3)), nn.Parameter(numbers("vector", 5))]


def gradients(step: int) -> list[Tensor]:
    return [numbers(f"matrix at {step}", 4, 3, scale=3.0), numbers(f"vector at {step}", 5, scale=0.1)]


def steps(original: Originals) -> Numbers:
    """Weights after each step of warm-up and decay."""
    given = weights()
    optimiser = original.BertAdam(given, lr=LR, warmup=RISING, t_total=STEPS, b1=BETAS[0], b2=BETAS[1], e=EPS,
                                  weight_decay=DECAY)  # fmt: skip
    found: Numbers = {}
    for step in range(STEPS):
        for weight, gradient in zip(given, gradients(step), strict=True):
            weight.grad = gradient
        optimiser.step()
        found[str(step)] = [float(weight.detach().norm()) for weight in given]
    return {"norms": found, "last": given[1].tolist()}

"""NLVR2's accuracy and consistency (arXiv:1811.00491, and the authors' metrics.py)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def accuracy_and_consistency(right: Sequence[bool], identifiers: Sequence[str]) -> dict[str, float]:
    """Share of examples that are right, and share of sentences of which every example is.

    identifiers: as the authors number examples, such as `dev-850-0-1`: split, sentences' set, pair of images, sentence.
    Examples that differ in the third part alone have one sentence.
    """
    every: dict[tuple[str, ...], bool] = {}
    for correct, identifier in zip(right, identifiers, strict=True):
        split, number, _, *rest = identifier.split("-")
        sentence = (split, number, *rest)
        every[sentence] = every.get(sentence, True) and bool(correct)
    return {"accuracy": float(np.mean(right)), "consistency": float(np.mean(list(every.values())))}

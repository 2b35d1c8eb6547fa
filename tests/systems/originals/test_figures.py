"""Figures of retrieval, NLVR2 and RefCOCO against those of the scripts that papers report from."""

from __future__ import annotations

import pytest
import torch

from pairloom.metrics import boxes, nlvr2, retrieval
from tests.systems.originals import figures
from tests.systems.originals.drawn import Numbers, expected

WANTED = expected("figures")
RECALLS = figures.NAMES[:3]


def scored() -> tuple[torch.Tensor, torch.Tensor]:
    """(I, N) scores and (N,) the image of each caption."""
    images, captions = figures.embeddings()
    return images @ captions.t(), torch.arange(figures.IMAGES).repeat_interleave(figures.CAPTIONS)


def same(found: Numbers, wanted: Numbers) -> None:
    for way, theirs in wanted.items():
        for name in RECALLS:
            assert found[way][name] == pytest.approx(theirs[name] / 100), (way, name)


def test_recalls_and_ranks_are_vsepps() -> None:
    """Of two ranks in the middle the original takes the mean and rounds it down. torch takes the lower."""
    scores_IN, owner_N = scored()
    found = retrieval.both_ways(scores_IN, owner_N)
    same(found, WANTED["retrieval"])
    ranks = {"text_to_image": retrieval.text_ranks, "image_to_text": retrieval.image_ranks}
    for way, rank in ranks.items():
        assert float(rank(scores_IN, owner_N).double().mean()) == pytest.approx(WANTED["retrieval"][way]["mean"])
        assert found[way]["median_rank"] == WANTED["retrieval"][way]["median"]
    assert 0.05 < found["text_to_image"]["r_at_1"] < 0.9


def test_folds_are_vsepps() -> None:
    found = list(retrieval.folds(*scored(), figures.FOLD))
    assert len(found) == len(WANTED["folds"])
    for ours, theirs in zip(found, WANTED["folds"], strict=True):
        same(ours, theirs)


def test_nlvr2_is_its_authors_script() -> None:
    identifiers, labels, predictions = figures.answers()
    right = [label == told for label, told in zip(labels, predictions, strict=True)]
    found = nlvr2.accuracy_and_consistency(right, identifiers)
    assert found["accuracy"] == pytest.approx(WANTED["nlvr2"]["precision"])
    assert found["consistency"] == pytest.approx(WANTED["nlvr2"]["consistency"])
    assert 0 < found["consistency"] < found["accuracy"] < 1


def test_overlaps_are_uniters() -> None:
    """A pixel that it takes off the far edge it adds again. An overlap one pixel wide is none there."""
    corners = [torch.cat([one[:, :2], one[:, :2] + one[:, 2:]], dim=1) for one in figures.boxes()]
    narrow = corners[0][:, 2:].minimum(corners[1][:, 2:]) - corners[0][:, :2].maximum(corners[1][:, :2]) <= 1
    found = torch.where(narrow.any(dim=1), 0, boxes.overlap(*corners))
    assert found.tolist() == pytest.approx(WANTED["overlap"])
    assert 5 < (found > 0).sum() < figures.PAIRS

"""Zero-shot classes against scikit-learn, boxes against torchvision, Winoground's and SugarCrepe's scores by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import top_k_accuracy_score
from torchvision.ops import box_iou

from pairloom.metrics import boxes, choices


@pytest.mark.parametrize("count", [1, 5])
def test_top_k_is_scikit_learns(count: int) -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(400, 12)), rng.integers(0, 12, 400)
    wanted = top_k_accuracy_score(labels, scores, k=count, labels=range(12))
    assert choices.top(torch.from_numpy(scores), torch.from_numpy(labels), count) == pytest.approx(wanted)


def test_overlap_is_torchvisions() -> None:
    rng = np.random.default_rng(0)
    corners = torch.from_numpy(rng.uniform(0, 60, (300, 2, 2)))
    made = torch.cat([corners, corners + torch.from_numpy(rng.uniform(1, 40, (300, 2, 2)))], dim=-1)
    one, other = made.unbind(dim=1)
    wanted = box_iou(one, other).diagonal()
    torch.testing.assert_close(boxes.overlap(one, other), wanted)
    assert boxes.accuracy(one, other) == pytest.approx(float((wanted >= 0.5).double().mean()))
    shares = torch.tensor([64.0, 48.0, 64.0, 48.0], dtype=torch.float64)
    torch.testing.assert_close(boxes.overlap(one / shares, other / shares), wanted)  # in any unit


def test_an_overlap_of_just_a_half_is_right_and_an_empty_box_is_not() -> None:
    whole = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    assert boxes.accuracy(torch.tensor([[0.0, 0.0, 4.0, 2.0]]), whole) == 1
    assert boxes.accuracy(torch.tensor([[2.0, 2.0, 2.0, 2.0]]), torch.tensor([[2.0, 2.0, 2.0, 2.0]])) == 0


def test_winogrounds_scores_by_hand() -> None:
    """At [image, caption]: both told apart. Captions alone. Images alone. All alike."""
    both, captions = [[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.8], [0.95, 0.99]]
    images, alike = [[0.5, 0.6], [0.4, 0.7]], [[0.5, 0.5], [0.5, 0.5]]
    assert choices.winoground(torch.tensor([both, captions, images, alike])) == {
        "text": 0.5,
        "image": 0.5,
        "group": 0.25,
    }


def test_winogrounds_chance_is_what_random_scores_get() -> None:
    found = choices.winoground(torch.rand(60_000, 2, 2, generator=torch.Generator().manual_seed(0)))
    for name, chance in (("text", 1 / 4), ("image", 1 / 4), ("group", 1 / 6)):
        assert found[name] == pytest.approx(chance, abs=0.01)


def test_sugarcrepe_counts_where_the_right_caption_scores_higher() -> None:
    right, wrong = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.4, 0.4, 0.9])
    assert choices.two_way(right, wrong) == pytest.approx(1 / 3)

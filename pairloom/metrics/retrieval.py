"""Recall of image-text retrieval, both ways, with several captions an image, whole and over folds.

Shape letters: I images, N captions. A tie counts against the right one, so that a scorer that says the same of all
finds nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

CUTS = (1, 5, 10)
AT_ONCE = 1 << 22  # scores that are compared at a time, so that a large matrix is never copied


def text_ranks(scores_IN: Tensor, owner_N: Tensor) -> Tensor:
    """(N,) int64, from 1: where each caption finds its image.

    scores: (I, N) float, on the CPU and perhaps in a file; owner: (N,) int64, the image of each caption.
    """
    own_N = scores_IN.gather(0, owner_N[None])[0]
    rows = torch.split(scores_IN, _rows(scores_IN))
    return torch.stack([(block >= own_N).sum(dim=0) for block in rows]).sum(dim=0)  # counts itself: the best is 1


def image_ranks(scores_IN: Tensor, owner_N: Tensor) -> Tensor:
    """(I,) int64, from 1: where each image finds the best of its own captions."""
    ranks, first = [], 0
    for block_BN in torch.split(scores_IN, _rows(scores_IN)):
        numbers_B = torch.arange(first, first + len(block_BN))
        own_BN = owner_N[None] == numbers_B[:, None]
        best_B = block_BN.masked_fill(~own_BN, -torch.inf).amax(dim=1)
        ranks.append(((block_BN >= best_B[:, None]) & ~own_BN).sum(dim=1) + 1)
        first += len(block_BN)
    return torch.cat(ranks)


def _rows(scores_IN: Tensor) -> int:
    return max(1, AT_ONCE // max(scores_IN.shape[1], 1))


def both_ways(scores_IN: Tensor, owner_N: Tensor) -> dict[str, dict[str, float]]:
    """Figures of text_to_image and image_to_text."""
    return {"text_to_image": text_to_image(scores_IN, owner_N), "image_to_text": image_to_text(scores_IN, owner_N)}


def text_to_image(scores_IN: Tensor, owner_N: Tensor) -> dict[str, float]:
    """Each caption looks for its image: recall at 1, 5 and 10, median rank, and what chance gives."""
    return _of_texts(text_ranks(scores_IN, owner_N), len(scores_IN))


def _of_texts(ranks_N: Tensor, images: int) -> dict[str, float]:
    chance = {cut: min(cut / images, 1.0) for cut in CUTS}
    return _summary(ranks_N, chance, (images + 1) / 2)


def image_to_text(scores_IN: Tensor, owner_N: Tensor) -> dict[str, float]:
    """Each image looks for any of its captions. The best of them counts."""
    return _of_images(image_ranks(scores_IN, owner_N), owner_N)


def _of_images(ranks_I: Tensor, owner_N: Tensor) -> dict[str, float]:
    captions_I = torch.bincount(owner_N, minlength=len(ranks_I)).tolist()
    total = len(owner_N)
    chance = {cut: sum(chance_of_any(cut, own, total) for own in captions_I) / len(captions_I) for cut in CUTS}
    median = sum((total + 1) / (own + 1) for own in captions_I) / len(captions_I)  # mean rank of the best own caption
    return _summary(ranks_I, chance, median)


def chance_of_any(cut: int, own: int, total: int) -> float:
    """Probability that the best `cut` of `total` captions in random order hold at least one of `own`."""
    none = 1.0
    for drawn in range(min(cut, total)):
        none *= max(total - own - drawn, 0) / (total - drawn)
    return 1 - none


def folds(scores_IN: Tensor, owner_N: Tensor, size: int) -> Iterator[dict[str, dict[str, float]]]:
    """Figures within each `size` images in turn, as COCO's 5 × 1K. Images that do not fill the last fold are left out.

    The captions of a fold are those of its images.
    """
    for first in range(0, len(scores_IN) - size + 1, size):
        own_N = (owner_N >= first) & (owner_N < first + size)
        yield both_ways(scores_IN[first : first + size][:, own_N], owner_N[own_N] - first)


class Shortlists(NamedTuple):
    """The best by a first scorer."""

    images_KN: Tensor  # int64, of each caption
    texts_IK: Tensor  # int64, of each image


def shortlists(first_IN: Tensor, length: int) -> Shortlists:
    """So many images of each caption and captions of each image, or all there are."""
    images, texts = first_IN.shape
    by_caption, by_image = min(length, images), min(length, texts)
    return Shortlists(first_IN.topk(by_caption, dim=0).indices, first_IN.topk(by_image, dim=1).indices)


def reranked(scores_IN: Tensor, first_IN: Tensor, length: int, owner_N: Tensor) -> dict[str, dict[str, float]]:
    """Figures where `scores` orders the `length` best of `first`, and what is beyond them keeps the order of `first`.

    scores: read on the shortlists alone. shortlist_recall: the share whose shortlist holds what is looked for.
    """
    best, images = shortlists(first_IN, length), len(first_IN)
    numbers_N = torch.arange(len(owner_N))
    there_N = (best.images_KN == owner_N).any(dim=0)
    own_N = scores_IN[owner_N, numbers_N]
    among_N = (scores_IN.gather(0, best.images_KN) >= own_N).sum(dim=0)
    text_N = torch.where(there_N, among_N, text_ranks(first_IN, owner_N))
    own_IK = owner_N[best.texts_IK] == torch.arange(images)[:, None]
    given_IK = scores_IN.gather(1, best.texts_IK)
    best_I = given_IK.masked_fill(~own_IK, -torch.inf).amax(dim=1)
    among_I = ((given_IK >= best_I[:, None]) & ~own_IK).sum(dim=1) + 1
    image_I = torch.where(own_IK.any(dim=1), among_I, image_ranks(first_IN, owner_N))
    shares = there_N.float().mean().item(), own_IK.any(dim=1).float().mean().item()
    found = _of_texts(text_N, images), _of_images(image_I, owner_N)
    names = ("text_to_image", "image_to_text")
    both = zip(names, found, shares, strict=True)
    return {name: figures | {"shortlist_recall": share} for name, figures, share in both}


def over_folds(parts: list[dict[str, dict[str, float]]], fold: int) -> dict[str, Any] | None:
    """How many folds there are of so many images each, and the mean of their figures. None of no fold."""
    if not parts:
        return None
    averaged = mean(parts)
    return {"count": len(parts), "images": fold, **averaged, "recall_sum": recall_sum(averaged)}


def mean(found: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """The mean of each figure over folds."""
    return {
        way: {name: sum(one[way][name] for one in found) / len(found) for name in figures}
        for way, figures in found[0].items()
    }


def recall_sum(found: Mapping[str, Mapping[str, Any]]) -> float:
    """The sum of the six recalls, from 0 to 6. Papers give it in percent."""
    return sum(float(figures[f"r_at_{cut}"]) for figures in found.values() for cut in CUTS)


def _summary(ranks: Tensor, chance: dict[int, float], chance_rank: float) -> dict[str, float]:
    recall = {f"r_at_{cut}": (ranks <= cut).float().mean().item() for cut in CUTS}
    by_chance = {f"chance_r_at_{cut}": value for cut, value in chance.items()}
    return recall | by_chance | {"median_rank": ranks.float().median().item(), "chance_mean_rank": chance_rank}

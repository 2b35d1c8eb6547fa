"""Retrieval by two models: a dual encoder finds the best few of all, and a model that reads pairs puts them in order.

Shape letters: I images, N captions, K of a shortlist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from evaluation.gallery import Gallery, texts_alone
from evaluation.scoring import Advance, matcher, nothing, room, scores
from pairloom.errors import ConfigError, InputError
from pairloom.metrics import retrieval as recall
from trainer.contract import VectorMatcher
from trainer.learner import Learner


@dataclass(frozen=True)
class First:
    """The dual encoder that makes the shortlists, and the same images as its recipe shows them."""

    learner: Learner
    gallery: Gallery
    length: int  # images of a caption, and captions of an image

    def scores(self, captions: tuple[tuple[str, ...], ...]) -> Tensor:
        """(I, N). Raises ConfigError if it reads pairs, too, and InputError if it has other captions."""
        if not isinstance(matcher(self.learner), VectorMatcher):
            fix = "name a checkpoint of a dual encoder, such as clip or align"
            raise ConfigError(f"recipe {self.learner.recipe.name} reads every pair, too", "--shortlist-by", fix)
        if self.gallery.captions != captions:
            fix = "take two recipes with the same text.languages and text.draw"
            raise InputError("the two checkpoints see different captions of the split", "--shortlist-by", fix)
        texts = [text for own in captions for text in own]
        return scores(self.learner, self.gallery, range(len(captions)), texts)


def retrieval(
    learner: Learner,
    gallery: Gallery,
    first: First,
    fold: int,
    folds_only: bool = False,
    advance: Advance = nothing,
) -> dict[str, Any]:
    """As matching.retrieval, where the learner scores what is on a shortlist and nothing else.

    Each caption has a shortlist of images and each image one of captions, the best by `first` among all and, for
    folds, within each fold. What is on none comes after it in the order of `first`. shortlist_recall: the share whose
    shortlist has what is looked for, which no order can raise.
    """
    captions = gallery.captions
    owner_N = torch.arange(len(captions)).repeat_interleave(torch.tensor([len(own) for own in captions]))
    first_IN = first.scores(captions)
    parts = _parts(owner_N, len(captions), fold, folds_only)
    wanted_IN = torch.zeros(first_IN.shape, dtype=torch.bool)
    for images, texts in parts:
        within = first_IN[images, texts]
        wanted = torch.zeros_like(within, dtype=torch.bool)
        best = recall.shortlists(within, first.length)
        wanted.scatter_(0, best.images_KN, True).scatter_(1, best.texts_IK, True)
        wanted_IN[images, texts] |= wanted
    scored_IN = _scored(learner, gallery, wanted_IN, advance)
    found = [
        recall.reranked(scored_IN[images, texts], first_IN[images, texts], first.length, owner_N[texts] - images.start)
        for images, texts in parts
    ]
    whole, folds = (None, found) if folds_only else (found[0], found[1:])
    pairs = int(wanted_IN.sum())
    return {
        "images": len(captions),
        "captions": len(owner_N),
        "shortlist": {"length": first.length, "pairs": pairs, "share_of_pairs": pairs / wanted_IN.numel()},
        "whole": whole and whole | {"recall_sum": recall.recall_sum(whole)},
        "folds": recall.over_folds(folds, fold),
    }


def _parts(owner_N: Tensor, images: int, fold: int, folds_only: bool) -> Sequence[tuple[slice, slice]]:
    """(images, their captions) of the whole and of each fold, as there are."""
    count = images // fold
    if folds_only and count < 1:
        fix = "give a smaller --fold, or leave out --folds-only"
        raise InputError(f"it has {images} images, a fold {fold}", "the split", fix)
    folds = [(number * fold, (number + 1) * fold) for number in range(count)] if folds_only or count > 1 else []
    spans = [*([] if folds_only else [(0, images)]), *folds]
    ends = [torch.searchsorted(owner_N, torch.tensor(span)).tolist() for span in spans]
    return [(slice(*span), slice(*texts)) for span, texts in zip(spans, ends, strict=True)]


@torch.no_grad()
def _scored(learner: Learner, gallery: Gallery, wanted_IN: Tensor, advance: Advance) -> Tensor:
    """(I, N): the learner's scores of the wanted pairs. All others are unset."""
    device = next(learner.eval().parameters()).device
    texts = [text for own in gallery.captions for text in own]
    scored_IN = room(*wanted_IN.shape)
    for image, wanted_N in enumerate(wanted_IN):
        numbers = wanted_N.nonzero()[:, 0]
        if len(numbers):
            words = texts_alone(gallery.make.tokenizer, [texts[number] for number in numbers.tolist()])
            block = gallery.batch([image]).to(device)
            scored_IN[image, numbers] = learner.similarity(block, words.to(device))[0].float().cpu()
        advance(1)
    return scored_IN

"""Tests of how well images and texts match: retrieval, zero-shot classes, Winoground's sets, SugarCrepe's pairs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from evaluation.gallery import Gallery
from evaluation.records import Pair, Quad
from evaluation.scoring import IMAGES, Advance, image_vectors, matcher, nothing, scores, text_vectors
from pairloom.errors import InputError
from pairloom.metrics import choices
from pairloom.metrics import retrieval as recall
from trainer.contract import VectorMatcher
from trainer.learner import Learner

FOLD = 1000  # COCO's 5 × 1K


def retrieval(
    learner: Learner, gallery: Gallery, fold: int = FOLD, folds_only: bool = False, advance: Advance = nothing
) -> dict[str, Any]:
    """Recall both ways among all images of the gallery and all their captions, and the mean over folds of them.

    folds: None with fewer than two folds. folds_only: nothing is scored across folds, which is a fifth of the work
    with five of them. The figures of the whole are None.
    """
    images, captions = range(len(gallery)), gallery.captions
    texts = [text for own in captions for text in own]
    owner_N = torch.arange(len(captions)).repeat_interleave(torch.tensor([len(own) for own in captions]))
    count = len(captions) // fold
    if folds_only and count < 1:
        fix = "give a smaller --fold, or leave out --folds-only"
        raise InputError(f"it has {len(captions)} images, a fold {fold}", "the split", fix)
    if folds_only:
        parts = []
        for first in range(0, count * fold, fold):
            own = images[first : first + fold]
            within = [text for image in own for text in captions[image]]
            own_N = (owner_N >= first) & (owner_N < first + fold)
            parts.append(recall.both_ways(scores(learner, gallery, own, within, advance), owner_N[own_N] - first))
        whole = None
    else:
        scored_IN = scores(learner, gallery, images, texts, advance)
        whole = recall.both_ways(scored_IN, owner_N)
        parts = list(recall.folds(scored_IN, owner_N, fold)) if count > 1 else []
    return {
        "images": len(captions),
        "captions": len(texts),
        "whole": whole and whole | {"recall_sum": recall.recall_sum(whole)},
        "folds": recall.over_folds(parts, fold),
    }


@torch.no_grad()
def zeroshot(
    learner: Learner,
    gallery: Gallery,
    classes: Sequence[str],
    templates: Sequence[str],
    labels: Sequence[str | None],
    advance: Advance = nothing,
) -> dict[str, Any]:
    """Share of images whose class is the best, or among the five best, of those named in prompts.

    templates: texts with {} for the class. Two towers: a class is the mean of its prompts' vectors, made of length 1
    (CLIP, section 3.1.4). Others: the mean of its prompts' scores. labels: of each image a class, or its number in
    figures. Images without one are left out. Raises InputError for a label that is no class.
    """
    numbers = {name: number for number, name in enumerate(classes)}
    known = numbers | {str(number): number for number in range(len(classes)) if str(number) not in numbers}
    labelled = [(image, label) for image, label in enumerate(labels) if label is not None]
    strangers = [label for _, label in labelled if label not in known]
    if strangers or not labelled:
        given = f"the label {strangers[0]!r} is none of the classes" if strangers else "no image has a label"
        fix = "name the key of `extra` that holds the labels (--label), and every class (--classes)"
        raise InputError(given, "the split", fix)
    images = [image for image, _ in labelled]
    labels_I = torch.tensor([known[label] for _, label in labelled])
    prompts = [[template.replace("{}", name) for template in templates] for name in classes]
    if isinstance(module := matcher(learner.eval()), VectorMatcher):
        means_CE = [text_vectors(learner, gallery, texts).mean(dim=0) for texts in prompts]
        classes_CE = F.normalize(torch.stack(means_CE), dim=-1)
        blocks = []
        for first in range(0, len(images), IMAGES):
            vectors_BE = image_vectors(learner, gallery, images[first : first + IMAGES])
            blocks.append(module.of_vectors(vectors_BE, classes_CE).float().cpu())
            advance(len(vectors_BE))
        scored_IC = torch.cat(blocks)
    else:
        scored = scores(learner, gallery, images, [text for texts in prompts for text in texts], advance)
        scored_IC = scored.view(len(images), len(classes), len(templates)).mean(dim=2)
    return {
        "images": len(images),
        "classes": len(classes),
        "templates": len(templates),
        **{f"top_{count}": choices.top(scored_IC, labels_I, count) for count in (1, 5) if count < len(classes)},
        "chance_top_1": 1 / len(classes),
    }


def winoground(
    learner: Learner, gallery: Gallery, sets: Sequence[Quad], match: str, advance: Advance = nothing
) -> dict[str, Any]:
    """Text, image and group score of sets of two images and two captions, whole and by the sets' own tag."""
    found = []
    for quad in sets:
        images = [gallery.place(name, match, quad.where) for name in quad.images]
        found.append(scores(learner, gallery, images, quad.captions))
        advance(1)
    scored_E22 = torch.stack(found)
    by_tag: dict[str, list[int]] = defaultdict(list)
    for number, quad in enumerate(sets):
        if quad.tag:
            by_tag[quad.tag].append(number)
    tags = {tag: choices.winoground(scored_E22[own]) | {"sets": len(own)} for tag, own in sorted(by_tag.items())}
    chance = {"chance_text": 1 / 4, "chance_image": 1 / 4, "chance_group": 1 / 6}
    return {"sets": len(sets), **choices.winoground(scored_E22), **chance, "tags": tags}


def sugarcrepe(
    learner: Learner, gallery: Gallery, files: dict[str, Sequence[Pair]], match: str, advance: Advance = nothing
) -> dict[str, Any]:
    """Accuracy of each file of right and wrong captions, and the mean of the files', as the paper's tables have it."""
    found = {}
    for name, pairs in files.items():
        scored = []
        for pair in pairs:
            image = gallery.place(pair.image, match, pair.where)
            scored.append(scores(learner, gallery, [image], [pair.right, pair.wrong])[0])
            advance(1)
        scored_E2: Tensor = torch.stack(scored)
        found[name] = {"accuracy": choices.two_way(scored_E2[:, 0], scored_E2[:, 1]), "pairs": len(pairs)}
    mean = sum(figures["accuracy"] for figures in found.values()) / len(found)
    return {"accuracy": mean, "chance": 0.5, "files": found}

"""Examples of NLVR2, RefCOCO and VQA: images of a gallery with a text and what is right, and batches of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from evaluation.gallery import Gallery
from evaluation.records import records
from evaluation.referring import Published
from pairloom.errors import InputError
from pairloom.loader import questions
from pairloom.loader.batch import Batch
from pairloom.loader.draws import Draws
from pairloom.table import Array


@dataclass(frozen=True)
class Example:
    """A text about one image, or about a left and a right one, and what is right."""

    images: tuple[int, ...]  # of the gallery
    text: str
    targets: Mapping[str, Array]  # by name, of each image's row
    name: str = ""  # NLVR2's identifier
    answers: tuple[tuple[str, float], ...] = ()  # VQA's, with their scores


def batch_of(gallery: Gallery, examples: Sequence[Example], seed: int, epoch: int | None) -> Batch:
    """A row for each image of each example, in their order. epoch None: nothing is augmented."""
    pairs, targets = [], []
    for example in examples:
        for image in example.images:
            row = gallery.row(image)
            pairs.append(replace(gallery.make.pair(row), text=example.text))
            targets.append(example.targets)
    draws = Draws(seed, [pair.row for pair in pairs], [epoch or 0] * len(pairs))
    make = gallery.make if epoch is None else replace(gallery.make, augment=True)
    made = make(pairs, draws)
    made.targets = {name: [one[name] for one in targets] for name in targets[0]}  # those of all examples are alike
    return make.collate(made)


def of_nlvr2(gallery: Gallery, path: Path, match: str) -> list[Example]:
    """NLVR2's dev.json and its like, JSON lines: identifier, sentence, label (True or False).

    The images are `left` and `right`; without these fields those that the authors' files mean, called
    identifier-img0 and identifier-img1 without the identifier's last number.
    """
    found = []
    for one in records(path):
        label = str(one.values.get("label")).lower()
        if label not in ("true", "false"):
            raise InputError(f"label is {one.values.get('label')!r}", one.where, "write True or False")
        identifier = one.text("identifier")
        if identifier.count("-") < 3:
            fix = "write split, set, pair and sentence, as dev-850-0-1"
            raise InputError(f"identifier is {identifier!r}", one.where, fix)
        stored = identifier.rpartition("-")[0]
        names = [
            one.text(side) if side in one.values else f"{stored}-img{number}"
            for number, side in enumerate(("left", "right"))
        ]
        left, right = (gallery.place(name, match, one.where) for name in names)
        targets = {"true": np.array(int(label == "true"))}
        found.append(Example((left, right), one.text("sentence"), targets, identifier))
    return found


def of_refcoco(gallery: Gallery, path: Path, match: str, published: Published | None = None) -> list[Example]:
    """Referring expressions: image (a name), text, box (x1 y1 x2 y2, pixels), width and height (of its picture).

    Without width and height the box is one of the stored picture, which may be smaller than the published one. A pickle
    is read as its authors publish it (referring.py).
    """
    found = []
    for one in (published or Published()).records(path):
        image = gallery.place(one.text("image"), match, one.where)
        size = [one.values.get(side) or gallery.row(image).value(side) for side in ("width", "height")]
        box_4 = np.array(one.numbers("box", 4), np.float32) / np.array([*size, *size], np.float32)
        if not (box_4[:2] < box_4[2:]).all() or box_4.min() < -0.01 or box_4.max() > 1.01:
            given = f"box is {list(one.numbers('box', 4))} in a picture of {size[0]} by {size[1]}"
            raise InputError(given, one.where, "write x1 y1 x2 y2, and the width and height of the picture they are of")
        found.append(Example((image,), one.text("text"), {"box": box_4}))
    return found


def of_vqa(gallery: Gallery) -> list[Example]:
    """Every question about the gallery's images that has answers, from the shards' column qa."""
    return [
        Example((image,), question.text, {}, answers=question.answers)
        for image, row in enumerate(gallery)
        for question in questions.about(row)
        if question.answers
    ]

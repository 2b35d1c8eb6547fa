"""Figures of evaluation by the scripts that papers report from, on made-up scores and predictions.

Retrieval by VSE++'s code (arXiv:1707.05612), five captions an image, whole and in folds. NLVR2 by its authors' script.
RefCOCO's overlap by UNITER's code. VQA's is in tests/pairloom/metrics/test_answers.py.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from torch import Tensor

from tests.systems.originals.drawn import Numbers, numbers, whole
from tests.systems.originals.taking import Originals

IMAGES, CAPTIONS, E, FOLD, PAIRS = 40, 5, 6, 20, 60
SENTENCES = 12  # each about four pairs of images
NAMES = ("r_at_1", "r_at_5", "r_at_10", "median", "mean")


def embeddings() -> tuple[Tensor, Tensor]:
    """(I, E) of images, and (5 I, E) of captions, each near its image."""
    images = numbers("images", IMAGES, E)
    return images, images.repeat_interleave(CAPTIONS, 0) + 1.5 * numbers("noise", IMAGES * CAPTIONS, E)


def answers() -> tuple[list[str], list[bool], list[bool]]:
    """(identifiers, labels, predictions) of NLVR2."""
    identifiers = [f"dev-{number // 3}-{pair}-{number % 3}" for number in range(SENTENCES) for pair in range(4)]
    labels = whole("labels", 2, len(identifiers)).bool()
    wrong = whole("wrong", 5, len(identifiers)) == 0
    return identifiers, labels.tolist(), (labels ^ wrong).tolist()


def boxes() -> tuple[Tensor, Tensor]:
    """(N, 4) x y w h in pixels, of which some do not meet."""
    first, second = ((numbers(name, PAIRS, 4).sigmoid() * 100).round() + 2 for name in ("boxes", "other boxes"))
    return first, second


def run(folder: Path) -> tuple[Any, Numbers]:
    retrieval = Originals(folder, "fartashf/vsepp", "175b8979dd5ba91e6e5358ee27c712f3abb8d31f")
    retrieval.put(numpy=np)
    retrieval.take("evaluation.py", "i2t", "t2i")
    nlvr = Originals(folder, "lil-lab/nlvr", "e6a286aa779fcaf6ecd331a42767915d1ae4fbf5")
    referring = Originals(folder, "ChenRocks/UNITER", "8bebfab8c2797bb64c616effc268e2ff7db47137")
    referring.take("data/re.py", "ReEvalDataset.computeIoU")
    pairs = zip(*(one.tolist() for one in boxes()), strict=True)
    found: Numbers = {
        "retrieval": ranked(retrieval, 0, IMAGES), "nlvr2": consistency(nlvr),
        "folds": [ranked(retrieval, first, FOLD) for first in range(0, IMAGES, FOLD)],
        "overlap": [referring.computeIoU(None, *pair) for pair in pairs],
    }  # fmt: skip
    return [original.facts() for original in (retrieval, nlvr, referring)], found


def ranked(original: Originals, first: int, count: int) -> Numbers:
    images, captions = (one.numpy() for one in embeddings())
    images = images.repeat(CAPTIONS, 0)  # the original wants each image as often as it has captions
    rows = slice(first * CAPTIONS, (first + count) * CAPTIONS)
    ways = {"image_to_text": original.i2t, "text_to_image": original.t2i}
    return {way: dict(zip(NAMES, map(float, find(images[rows], captions[rows], count)), strict=True))
            for way, find in ways.items()}  # fmt: skip


def consistency(original: Originals) -> Numbers:
    """The script reads two files and prints two figures."""
    identifiers, labels, predictions = answers()
    files = {
        "predictions": "\n".join(f"{name},{told}" for name, told in zip(identifiers, predictions, strict=True)),
        "labels": "\n".join(
            json.dumps({"identifier": name, "label": str(label)})
            for name, label in zip(identifiers, labels, strict=True)
        ),
    }
    said: list[str] = []
    original.run_file("nlvr2/eval/metrics.py", open=lambda name: io.StringIO(files[name]), print=said.append,
                      sys=SimpleNamespace(argv=["", "predictions", "labels"]), json=json)  # fmt: skip
    return {name: float(value) for name, value in (line.split("=") for line in said)}

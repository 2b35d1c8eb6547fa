"""Measures the starter detector on held-out composed scenes, and shows what it says about real photographs.

    python -m stages.regions.starter.evaluate --scenes 300 --photographs

Scenes have backgrounds and seeds that training never saw. The drawings of the things are the same.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from demo.backdrops import PACKAGES, SAMPLE, backgrounds
from demo.scenes import Scene, compose
from demo.things import CLASSES, glyphs
from pairloom.boxes import iou
from stages.regions import Config, Tools, setup
from stages.regions.extract import extract_one
from stages.regions.pictures import decode
from stages.regions.stored import StoredRegions

STREAM = 20_261_125  # not the one of train_starter
SIZES = ((400, 300), (320, 320), (300, 400), (480, 360))  # width, height
NOT_PICTURES = ("chessboard", "logo", "phantom", "multipage", "no_time_for_that")  # test charts among the photographs


def scene(seed: int) -> Scene:
    """Held-out scene number `seed`."""
    rng = np.random.default_rng((STREAM, seed))
    return compose(rng, glyphs(), backgrounds(SAMPLE), SIZES[seed % len(SIZES)])


def detect(picture: Image.Image, tools: Tools) -> StoredRegions:
    return extract_one(picture, tools.engine)


@dataclass(frozen=True)
class Score:
    """Counts over scenes at one score threshold. A match is a free true box of the same class with IoU ≥ 0.5."""

    things: int
    found: int
    right: int
    attributes: int  # matched regions whose thing has an attribute
    attributes_right: int  # … and whose stored attribute is one of them

    def figures(self) -> dict[str, float]:
        shares = {
            "precision": self.right / max(self.found, 1),
            "recall": self.right / max(self.things, 1),
            "attribute_accuracy": self.attributes_right / max(self.attributes, 1),
        }
        return {name: round(value, 3) for name, value in shares.items()}


def score(scenes: list[Scene], results: list[StoredRegions], tools: Tools, min_score: float) -> Score:
    """Best region first, each takes the true box it overlaps most among those of its class that are free."""
    counts = np.zeros(5, int)
    for one, regions in zip(scenes, results, strict=True):
        free = set(range(len(one.things)))
        counts[0] += len(free)
        for k in np.flatnonzero(regions.class_scores >= min_score):
            counts[1] += 1
            name = tools.engine.network.classes[regions.class_ids[k]]
            overlap = {i: _iou(regions.boxes[k], one.things[i].box) for i in free if one.things[i].name == name}
            best = max(overlap, key=lambda i: overlap[i], default=None)
            if best is not None and overlap[best] >= 0.5:
                free.remove(best)
                words = one.things[best].attributes
                said = tools.engine.network.attributes[regions.attribute_ids[k]]
                counts[2:] += (1, bool(words), said in words)
    return Score(*(int(count) for count in counts))


def _iou(one: Any, other: Any) -> float:
    return float(iou(np.array([one]), np.array([other]))[0, 0])


def average_precision(scenes: list[Scene], results: list[StoredRegions]) -> dict[str, float]:
    """COCO's mean average precision over the starter's own classes, by pycocotools."""
    truth = [
        {"id": 0, "image_id": n, "category_id": CLASSES.index(thing.name), **_xywh(thing.box), "iscrowd": 0}
        for n, one in enumerate(scenes)
        for thing in one.things
    ]
    for number, entry in enumerate(truth, start=1):
        entry["id"] = number
    said = [
        {"image_id": n, "category_id": int(c), **_xywh(box), "score": float(s)}
        for n, regions in enumerate(results)
        for box, c, s in zip(regions.boxes.tolist(), regions.class_ids, regions.class_scores, strict=True)
        if c < len(CLASSES)
    ]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
        coco = COCO()
        coco.dataset = {
            "images": [{"id": n} for n in range(len(scenes))],
            "categories": [{"id": i} for i in range(len(CLASSES))],
            "annotations": truth,
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(said), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {"mAP": round(float(evaluation.stats[0]), 3), "mAP@.5": round(float(evaluation.stats[1]), 3)}


def _xywh(box: Any) -> dict[str, Any]:
    x1, y1, x2, y2 = box
    return {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}


def photographs() -> list[Path]:
    """The photographs that scikit-image and scikit-learn install."""
    files = [path for folder in PACKAGES.values() for path in folder.iterdir() if path.suffix in (".png", ".jpg")]
    return sorted((path for path in files if not path.name.startswith(NOT_PICTURES)), key=lambda path: path.name)


def words_for(regions: StoredRegions, tools: Tools) -> list[str]:
    """Attribute, class and score of the regions from min_score on."""
    network = tools.engine.network
    rows = np.flatnonzero(regions.class_scores >= tools.engine.policy.min_score)
    return [
        f"{network.attributes[regions.attribute_ids[k]]} {network.classes[regions.class_ids[k]]}"
        f" {regions.class_scores[k]:.2f}"
        for k in rows
    ]


def evaluate(tools: Tools, count: int) -> dict[str, Any]:
    """All figures over this many held-out scenes, and the time a picture."""
    scenes = [scene(seed) for seed in range(count)]
    start = time.perf_counter()
    results = [detect(Image.fromarray(one.image), tools) for one in scenes]
    milliseconds = 1000 * (time.perf_counter() - start) / count
    figures: dict[str, Any] = {"scenes": count, "things": sum(len(one.things) for one in scenes)}
    figures |= average_precision(scenes, results)
    for limit in (tools.engine.policy.min_score, 0.5):
        figures[f"score ≥ {limit}"] = score(scenes, results, tools, limit).figures()
    return figures | {"milliseconds a picture": round(milliseconds, 1), "threads": torch.get_num_threads()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--checkpoint", help="other weights than the shipped ones")
    parser.add_argument("--photographs", action="store_true", help="also name things on the installed photographs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tools = setup(Config(checkpoint=options.checkpoint), Path())
    figures = evaluate(tools, options.scenes)
    if options.photographs:
        said = {path.name: words_for(detect(decode(path.read_bytes()), tools), tools) for path in photographs()}
        figures["photographs"] = said
    json.dump(figures, sys.stdout, indent=1, ensure_ascii=False)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()

"""Shards of made-up scenes that a small model learns in seconds, and files of each test about them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from schemas.shards import SHARDS
from tests.building import negative, training_row, training_shard, write_table

THINGS = ("dog", "cup", "bus", "tree")
COLOURS = {"red": (220, 40, 40), "green": (40, 190, 60), "blue": (50, 60, 220), "white": (235, 235, 235)}
KINDS = [(colour, thing) for colour in COLOURS for thing in THINGS]
WIDTH = len(THINGS) + len(COLOURS)
METADATA = {
    "detector": "test", "checkpoint": "0", "feature_width": str(WIDTH), "prob_width": "2", "feature_dtype": "<f2",
    "classes": json.dumps(THINGS), "attributes": json.dumps(["none", *COLOURS]),
    "answers": json.dumps([*THINGS, *COLOURS]), "answer_count": str(WIDTH),
}  # fmt: skip
SIZE = 64  # pixels of a side
SHOWN = 3  # things of a scene, no two of a kind, each in a quarter of its own


def scene(number: int) -> list[tuple[str, str, int]]:
    """(colour, thing, quarter) of each thing. The first is what captions and questions are about."""
    rng = np.random.default_rng(number)
    things, quarters = rng.permutation(len(THINGS))[:SHOWN], rng.permutation(4)[:SHOWN]
    colours = rng.integers(0, len(COLOURS), SHOWN)
    return [(list(COLOURS)[c], THINGS[t], int(q)) for c, t, q in zip(colours, things, quarters, strict=True)]


def box(quarter: int) -> tuple[int, int, int, int]:
    x, y = 32 * (quarter % 2), 32 * (quarter // 2)
    return x + 2, y + 2, x + 30, y + 30


def caption(number: int) -> str:
    return " and ".join(f"a {colour} {thing}" for colour, thing, _ in scene(number))


def feature(colour: str, thing: str) -> list[float]:
    return [float(thing == one) for one in THINGS] + [float(colour == one) for one in COLOURS]


def row(number: int) -> dict[str, Any]:
    things = scene(number)
    kinds = [THINGS.index(thing) for _, thing, _ in things]
    colours = [1 + list(COLOURS).index(colour) for colour, _, _ in things]
    asked = [(f"what colour is the {thing}?", colour) for colour, thing, _ in things]
    asked += [
        (f"what is {colour}?", thing) for colour, thing, _ in things if sum(colour == c for c, _, _ in things) == 1
    ]
    qa = [
        {"text": text, "answers": [{"text": answer, "score": 1.0}], "source": "scenes", "question_id": f"{number}.{n}"}
        for n, (text, answer) in enumerate(asked)
    ]
    return training_row(
        number, [caption(number), caption(number).replace(" and ", ", ")], np.array([box(q) for _, _, q in things]),
        np.array([feature(colour, thing) for colour, thing, _ in things]),
        image=picture(number), width=SIZE, height=SIZE, url=f"http://sample.invalid/scenes/{name(number)}.jpg",
        extra=[{"name": "label", "value": things[0][1]}, {"name": "coco_id", "value": str(number)}],
        class_ids=np.array(kinds), class_scores=np.linspace(0.9, 0.7, SHOWN), attribute_ids=np.array(colours),
        attribute_scores=np.linspace(0.9, 0.7, SHOWN),
        prob_ids=np.array([[k, (k + 1) % len(THINGS)] for k in kinds]), prob_values=np.array([[0.9, 0.05]] * SHOWN),
        negatives=[[negative(caption(number + 1))]] * 2, short=[29] * 2, qa=qa,
        tags=tags(things),
    )  # fmt: skip


def tags(things: list[tuple[str, str, int]]) -> list[dict[str, Any]]:
    """As the stage `tags` makes them: colour and thing of each region."""
    texts = [f"{colour} {thing}" for colour, thing, _ in things]
    starts = [sum(len(text) + 1 for text in texts[:n]) for n in range(len(texts))]
    return [
        {
            "text": text,
            "region": n,
            "class_id": THINGS.index(things[n][1]),
            "attribute_id": 0,
            "score": 0.9,
            "count": 1,
            "start": start,
        }
        for n, (text, start) in enumerate(zip(texts, starts, strict=True))
    ]


def name(number: int) -> str:
    return f"scene_{number:04d}"


def picture(number: int) -> bytes:
    """A square, a disc, a cross or a ring for each thing, in its colour."""
    image = Image.new("RGB", (SIZE, SIZE), (120, 120, 120))
    draw = ImageDraw.Draw(image)
    for colour, thing, quarter in scene(number):
        x1, y1, x2, y2 = box(quarter)
        fill = COLOURS[colour]
        if thing == "dog":
            draw.rectangle((x1, y1, x2, y2), fill=fill)
        elif thing == "cup":
            draw.ellipse((x1, y1, x2, y2), fill=fill)
        elif thing == "bus":
            draw.rectangle((x1, y1 + 10, x2, y2 - 10), fill=fill)
            draw.rectangle((x1 + 10, y1, x2 - 10, y2), fill=fill)
        else:
            draw.ellipse((x1, y1, x2, y2), outline=fill, width=6)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def write_scenes(folder: Path, train: int = 256, val: int = 64, test: int = 0) -> Path:
    """Shards of so many scenes a split. Scene n is the same in every folder of these sizes."""
    splits = {"train": range(train), "val": range(train, train + val), "test": range(train + val, train + val + test)}
    made = {
        f"{split}-00000": training_shard([row(number) for number in numbers], split, METADATA)
        for split, numbers in splits.items()
        if numbers
    }
    return write_table(folder, SHARDS, made, group_rows=64, indexed=True)


def write_nlvr2(path: Path, numbers: range, seed: int = 0) -> Path:
    """Whether the left picture shows something red or, for half of the sentences, the right one does."""
    rng = np.random.default_rng(seed)
    lines = []
    for number in range(2 * len(numbers)):
        left, right = (int(one) for one in rng.choice(numbers, 2, replace=False))
        side = ("left", "right")[int(rng.integers(2))]
        true = any(colour == "red" for colour, _, _ in scene(left if side == "left" else right))
        lines.append({
            "identifier": f"dev-{number // 2}-{number % 2}-0", "sentence": f"something in the {side} picture is red",
            "label": str(true), "left": name(left), "right": name(right),
        })  # fmt: skip
    path.write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    return path


def write_refcoco(path: Path, numbers: range) -> Path:
    """Each thing of each scene by its name. Boxes in a picture of twice the size."""
    lines = [
        {"image": f"{name(number)}.jpg", "text": f"the {thing}", "box": [2 * side for side in box(quarter)],
         "width": 2 * SIZE, "height": 2 * SIZE}
        for number in numbers
        for _, thing, quarter in scene(number)
    ]  # fmt: skip
    path.write_text(json.dumps(lines), encoding="utf-8")
    return path

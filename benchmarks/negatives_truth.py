"""How many hard negatives are true of the picture after all, by rule: judged by the truth of composed scenes.

python -m benchmarks.negatives_truth [--scenes 1200] [--top-k 30] [--first 0] [--other-things] [--missing 0.2]

Scenes of 24 named things with five English captions each (those of `make recipes`) are mined by each rule. A negative
is `false` if all that it says holds for the scene whose captions it is to contradict. `lists` are the captions with at
least one such. The last column is the share of the true mismatches in the lists of rule `image` that a veto takes out
of them. The tags of `veto: tags` are those of a detector that makes no mistake: the scene's things with all their
attributes. With --missing so large a share of them is left out. The peer is InterBERT's published rule.

The words and numbers of `veto` were chosen on the scenes from 0 on. --first and --other-things give scenes of other
seeds and of 24 other things, to measure on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from demo.backdrops import SAMPLE, backgrounds
from demo.captions import english
from demo.draw import load
from demo.judging import is_true
from demo.scenes import Scene, SceneThing, compose
from demo.things import Glyph, glyphs
from stages.negatives import Beside, Config, mine

RULES: dict[str, dict[str, Any]] = {
    "interbert": {"against": "caption", "distinct": False, "train_only": False},
    "interbert, distinct": {"against": "caption", "train_only": False},
    "image, not distinct": {"distinct": False},
    "image": {},
    "image, veto captions": {"veto": "captions"},
    "image, veto tags": {"veto": "tags"},
}


def scenes(
    count: int, first: int = 0, drawn: Sequence[Glyph] | None = None
) -> tuple[list[Scene], list[str], list[str]]:
    """(scenes, captions, image ids). first: the seed of the first scene. drawn: of other things than the demo's."""
    demo, found, texts, images = load(Path("demo/scenes.yaml")), [], [], []
    drawn = drawn or [glyph for glyph in glyphs() if glyph.thing.name in demo.scenes.things]
    photographs = backgrounds(SAMPLE)
    for number in range(count):
        rng = np.random.default_rng(first + number)
        width, height = demo.scenes.sizes[number % len(demo.scenes.sizes)]
        scene = compose(rng, drawn, photographs, (width, height))
        own = english(scene, rng)
        found.append(scene)
        texts += own
        images += [f"{number:06d}"] * len(own)
    return found, texts, images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=1200)
    parser.add_argument("--top-k", type=int, default=30)
    parser.add_argument("--first", type=int, default=0, help="seed of the first scene")
    parser.add_argument("--other-things", action="store_true", help="24 that the scenes of the demo do not have")
    parser.add_argument("--missing", type=float, default=0.0, help="share of the tags that the detector does not find")
    arguments = parser.parse_args()
    made, texts, images = scenes(arguments.scenes, arguments.first, others(24) if arguments.other_things else None)
    tags = {f"{number:06d}": tags_of(scene, number, arguments.missing) for number, scene in enumerate(made)}
    print(f"{len(made)} scenes from seed {arguments.first}, {len(texts)} captions, top_k {arguments.top_k}")
    print("| rule | negatives | false | lists with one | lists that are short | good that the veto takes |")
    print("|---|---|---|---|---|---|")
    good: set[tuple[int, str]] = set()  # in the lists of rule image: place of the list, text
    for name, rule in RULES.items():
        table = mine(texts, images, config=Config(top_k=arguments.top_k, **rule), beside=Beside(tags=tags))
        told = [[one["text"] for one in own] for own in table["negatives"].to_pylist()]
        every = [(place, text) for place, own in enumerate(told) for text in own]
        false = [is_true(text, made[int(images[place])]) for place, text in every]
        lists = len({place for (place, _), wrong in zip(every, false, strict=True) if wrong}) / len(told)
        short = np.mean([len(own) < arguments.top_k for own in told])
        if name == "image":
            good = {one for one, wrong in zip(every, false, strict=True) if not wrong}
        taken = f"{len(good - set(every)) / len(good):.1%}" if "veto" in rule else ""
        shares = f"{np.mean(false):.2%} | {lists:.1%} | {short:.1%} | {taken}"
        print(f"| {name} | {len(every)} | {shares} |", flush=True)


def others(count: int) -> list[Glyph]:
    """So many things that the scenes of the demo do not have, drawn by a seed."""
    known = load(Path("demo/scenes.yaml")).scenes.things
    left = [glyph for glyph in glyphs() if glyph.thing.name not in known]
    return [left[place] for place in np.random.default_rng(0).permutation(len(left))[:count]]


def tags_of(scene: Scene, number: int, missing: float) -> list[str]:
    """Of its things, less a share of them."""
    found = np.random.default_rng(number).random(len(scene.things)) >= missing
    return [tag(thing) for thing, is_found in zip(scene.things, found, strict=True) if is_found]


def tag(thing: SceneThing) -> str:
    return " ".join((*thing.attributes, thing.name))


if __name__ == "__main__":
    main()

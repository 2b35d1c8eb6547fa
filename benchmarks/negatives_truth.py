"""How many hard negatives are true of the picture after all, by rule: judged by the truth of composed scenes.

python -m benchmarks.negatives_truth [--scenes 1200] [--top-k 30]

Scenes of 24 named things with five English captions each (those of `make recipes`) are mined by each rule. A negative
is `false` if all that it says holds for the scene whose captions it is to contradict. `lists` are the captions with at
least one such. The last column is the share of a rule's true mismatches that `veto: captions` would take from it. The
peer is InterBERT's published rule.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from demo.backdrops import SAMPLE, backgrounds
from demo.captions import english
from demo.draw import load
from demo.judging import is_true
from demo.scenes import Scene, compose
from demo.things import glyphs
from stages.negatives import Config, mine
from stages.negatives.words import normalise, words

RULES: dict[str, dict[str, Any]] = {
    "interbert": {"against": "caption", "distinct": False, "train_only": False},
    "image": {},
    "image, veto captions": {"veto": "captions"},
}


def scenes(count: int) -> tuple[list[Scene], list[str], list[str]]:
    """(scenes, captions, image ids)."""
    demo, found, texts, images = load(Path("demo/scenes.yaml")), [], [], []
    drawn = [glyph for glyph in glyphs() if glyph.thing.name in demo.scenes.things]
    photographs = backgrounds(SAMPLE)
    for number in range(count):
        rng = np.random.default_rng(number)
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
    arguments = parser.parse_args()
    made, texts, images = scenes(arguments.scenes)
    own: dict[str, set[str]] = defaultdict(set)
    counts = Counter(word for text in texts for word in set(words(normalise(text))))
    common = {word for word, count in counts.items() if count > Config().veto_common * len(texts)}
    for image, text in zip(images, texts, strict=True):
        own[image] |= set(words(normalise(text)))
    print(f"{len(made)} scenes, {len(texts)} captions, top_k {arguments.top_k}")
    print("| rule | negatives | false | lists with one | lists that are short | good that the veto takes |")
    print("|---|---|---|---|---|---|")
    for name, rule in RULES.items():
        table = mine(texts, images, config=Config(top_k=arguments.top_k, **rule))
        lists = [(row["image_id"], [one["text"] for one in row["negatives"]]) for row in table.to_pylist()]
        every = sorted({(image, text) for image, told in lists for text in told})
        false = {pair for pair in every if is_true(pair[1], made[int(pair[0])])}
        wrong = np.array([sum((image, text) in false for text in told) for image, told in lists])
        total = sum(len(told) for _, told in lists)
        short = np.mean([len(told) < arguments.top_k for _, told in lists])
        good = [(image, text) for image, text in every if (image, text) not in false]
        taken = np.mean([own[image].union(common).issuperset(words(normalise(text))) for image, text in good])
        shares = f"{wrong.sum() / total:.2%} | {np.mean(wrong > 0):.1%} | {short:.1%} | {taken:.1%}"
        print(f"| {name} | {total} | {shares} |", flush=True)


if __name__ == "__main__":
    main()

"""A caption is true of its own scene, and of no scene that says otherwise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from demo.captions import english
from demo.judging import NoCaptionError, is_true
from demo.scenes import Relation, Scene, SceneThing
from demo.things import THINGS

NAMES = [thing.name for thing in THINGS]


def scene_of(*things: SceneThing, relations: tuple[Relation, ...] = ()) -> Scene:
    ground = np.zeros((90, 120, 3), np.uint8)
    return Scene(ground, ground[:, :, 0], things, relations, tuple(NAMES))


def drawn(rng: np.random.Generator) -> Scene:
    """A scene of made-up truth: nothing is painted, which no caption needs."""
    words = ((), ("red",), ("small",), ("green", "large"))
    things = []
    for _ in range(int(rng.integers(1, 6))):
        left, top = rng.integers(0, 100), rng.integers(0, 70)
        box = (float(left), float(top), float(left + 20), float(top + 20))
        things.append(SceneThing(NAMES[rng.integers(len(NAMES))], words[rng.integers(4)], box, 1.0))
    held = [Relation(a, "left of", b) for a, one in enumerate(things) for b, two in enumerate(things)
            if one.box[2] < two.box[0]]  # fmt: skip
    return scene_of(*things, relations=tuple(held))


def test_every_caption_of_the_grammar_is_true_of_its_own_scene() -> None:
    rng = np.random.default_rng(0)
    for _ in range(400):
        scene = drawn(rng)
        for text in english(scene, rng):
            assert is_true(text, scene), text


DOG = SceneThing(NAMES[0], ("red", "small"), (5.0, 5.0, 20.0, 20.0), 1.0)
BUS = SceneThing(NAMES[1], ("large",), (80.0, 60.0, 110.0, 85.0), 1.0)
ONE, TWO = THINGS[0].singular, THINGS[1].singular
SCENE = scene_of(DOG, BUS, relations=(Relation(0, "left of", 1),))


@pytest.mark.parametrize(
    ("text", "true"),
    [
        (f"A red {ONE}.", True),
        (f"a large {ONE}", False),
        (f"a picture of a {ONE} and a {TWO}", True),
        (f"two {THINGS[0].plural}", False),
        (f"there is a {ONE} to the left of a large {TWO}", True),
        (f"a {TWO} to the left of a {ONE}", False),
        (f"a small {ONE} at the top left of the picture", True),
        (f"a small {ONE} in the middle", False),
        ("exactly two things, one of them small", True),
        ("two things, all of them small", False),
        ("three objects in all", False),
        (f"a {TWO}; a {TWO} is at the bottom right", True),
    ],
)
def test_claims_are_judged_one_by_one(text: str, true: bool) -> None:
    assert is_true(text.replace("a o", "an o").replace("a a", "an a"), SCENE) is true


def test_a_thing_less_makes_its_caption_false() -> None:
    assert is_true(f"a {ONE}".replace("a a", "an a").replace("a o", "an o"), SCENE)
    assert not is_true(f"a {ONE}".replace("a a", "an a").replace("a o", "an o"), replace(SCENE, things=(BUS,)))


def test_other_texts_are_refused() -> None:
    with pytest.raises(NoCaptionError):
        is_true("ein roter Bus", SCENE)

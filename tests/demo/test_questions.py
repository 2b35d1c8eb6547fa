"""Questions about scenes: each is answered again from the boxes, by a reader of our own."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.draw import draw
from demo.questions import english
from demo.scenes import SIZES, Scene
from demo.things import COLOURS, THINGS
from tests.demo.test_captions import FORMS, NOUN, SAYS, related, scene_of
from tests.demo.test_demo import small

WORDING = "|".join(sorted(SAYS, key=len, reverse=True))
OPPOSITE = {"left of": "right of", "above": "below", "in front of": "behind"}
OPPOSITE |= {after: before for before, after in OPPOSITE.items()}


def named(scene: Scene, noun: str) -> list[int]:
    return [place for place, thing in enumerate(scene.things) if thing.name == FORMS[noun]]


def answered(scene: Scene, question: str) -> set[str]:
    """Every answer that is true, from the scene alone."""
    if found := re.fullmatch(rf"is the ({NOUN}) ({WORDING}) the ({NOUN})\?", question):
        one, other, predicate = named(scene, found[1]), named(scene, found[3]), SAYS[found[2]]
        true, false = (related(scene, one, word, other) for word in (predicate, OPPOSITE[predicate]))
        return {"yes"} if true and not false else {"no"} if false and not true else set()
    if found := re.fullmatch(rf"what is ({WORDING}) the ({NOUN})\?", question):
        other = named(scene, found[2])
        lying = (place for place in range(len(scene.things)) if related(scene, [place], SAYS[found[1]], other))
        return {scene.things[place].name for place in lying}
    (noun,) = re.findall(rf"\b({NOUN})\b", question)
    if question.startswith(("how many", "what is the number")):
        return {str(len(named(scene, noun)))}
    if question.startswith(("is there", "do you see", "does the picture")):
        return {"yes" if named(scene, noun) else "no"}
    words = COLOURS if "colour" in question else SIZES
    return {word for place in named(scene, noun) for word in scene.things[place].attributes if word in words}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 8))
def test_every_answer_is_the_only_true_one(seed: int, count: int) -> None:
    scene = scene_of(seed)
    asked = english(scene, np.random.default_rng(seed), count)
    assert len({question for question, _ in asked}) == len(asked) <= count
    for question, answer in asked:
        assert answered(scene, question) == {answer}, question


def test_all_kinds_are_asked_and_yes_is_no_safe_guess() -> None:
    asked = [pair for seed in range(150) for pair in english(scene_of(seed), np.random.default_rng(seed), 4)]
    answers = Counter(answer for _, answer in asked)
    assert len(asked) > 500
    assert 0.7 < answers["yes"] / answers["no"] < 1.4
    assert set(COLOURS) | set(SIZES) | {"0", "1", "2"} <= set(answers)
    assert len(set(answers) & {thing.name for thing in THINGS}) > 15
    assert max(answers.values()) / len(asked) < 0.35


def test_the_demos_file_asks_about_its_scenes(tmp_path: Path) -> None:
    table = draw(small(tmp_path / "demo.yaml", photographs=[], failures=[]), tmp_path / "data")
    asked = json.loads((tmp_path / "data" / "questions.json").read_text(encoding="utf-8"))
    names = {Path(url).stem for url in table["url"].to_pylist()}
    assert {entry["img_id"] for entry in asked} == names
    assert len({entry["question_id"] for entry in asked}) == len(asked) > 3 * len(names)

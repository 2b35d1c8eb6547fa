"""Questions about a scene with their answers, in the words of its captions: only what has one true answer is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np

from demo.captions import BY_NAME, WORDINGS, pick
from demo.scenes import SIZES, Relation, Scene, SceneThing
from demo.things import COLOURS

OPPOSITE = {
    "left of": "right of", "above": "below", "in front of": "behind",
    "right of": "left of", "below": "above", "behind": "in front of",
}  # fmt: skip
BESIDE = ("left of", "right of", "above", "below")

Asked = tuple[str, str]  # question and answer


def english(scene: Scene, rng: np.random.Generator, count: int) -> list[Asked]:
    """So many different questions, of all kinds in turn. Fewer where the scene does not answer so many."""
    kinds: tuple[Callable[[Scene, np.random.Generator], Asked | None], ...]
    kinds = (colour, size, number, presence, relation, whereabouts)
    order = rng.permutation(len(kinds))
    found: dict[str, str] = {}
    for turn in range(5 * count):
        one = kinds[order[turn % len(kinds)]](scene, rng)
        if one is not None and len(found) < count:
            found.setdefault(*one)
    return list(found.items())


def colour(scene: Scene, rng: np.random.Generator) -> Asked | None:
    return _attribute(scene, rng, COLOURS, ("what colour is {}?", "what is the colour of {}?", "which colour has {}?"))


def size(scene: Scene, rng: np.random.Generator) -> Asked | None:
    return _attribute(scene, rng, SIZES, ("is {} small or large?", "how large is {}?", "what size is {}?"))


def number(scene: Scene, rng: np.random.Generator) -> Asked:
    """How many of a name there are. One time in six of a name that is not there."""
    counts = Counter(thing.name for thing in scene.things)
    name = _absent(scene, rng) if rng.random() < 1 / 6 else pick(tuple(counts), rng)
    question = pick(("how many {} are there?", "how many {} do you see?", "what is the number of {}?"), rng)
    return question.format(BY_NAME[name].plural), str(counts[name])


def presence(scene: Scene, rng: np.random.Generator) -> Asked:
    """Whether there is such a thing, in half of the cases not."""
    there = rng.random() < 0.5
    name = scene.things[rng.integers(len(scene.things))].name if there else _absent(scene, rng)
    noun = BY_NAME[name].singular
    article = "an" if noun[0].lower() in "aeiou" else "a"
    question = pick(("is there {} {}?", "do you see {} {}?", "does the picture show {} {}?"), rng)
    return question.format(article, noun), "yes" if there else "no"


def relation(scene: Scene, rng: np.random.Generator) -> Asked | None:
    """Whether two things lie so, or the other way round."""
    held = [one for one in scene.relations if _single(scene, one.subject) and _single(scene, one.object)]
    if not held:
        return None
    one = held[rng.integers(len(held))]
    true = rng.random() < 0.5
    wording = pick(WORDINGS[one.predicate if true else OPPOSITE[one.predicate]], rng)
    question = f"is {_the(scene.things[one.subject])} {wording} {_the(scene.things[one.object])}?"
    return question, "yes" if true else "no"


def whereabouts(scene: Scene, rng: np.random.Generator) -> Asked | None:
    """What lies in a direction from a thing, where one thing does and all others plainly do not."""
    asked = [one for one in scene.relations if one.predicate in BESIDE and _alone(scene, one)]
    if not asked:
        return None
    one = asked[rng.integers(len(asked))]
    wording = pick(WORDINGS[one.predicate], rng)
    return f"what is {wording} {_the(scene.things[one.object])}?", scene.things[one.subject].name


def _alone(scene: Scene, one: Relation) -> bool:
    """Whether the subject alone stands in this relation to the one object of its name, and the others in another."""
    towards = [held for held in scene.relations if held.object == one.object and held.predicate in BESIDE]
    same = [held for held in towards if held.predicate == one.predicate]
    return _single(scene, one.object) and len(same) == 1 and len(towards) == len(scene.things) - 1


def _attribute(
    scene: Scene, rng: np.random.Generator, words: tuple[str, ...], questions: tuple[str, ...]
) -> Asked | None:
    """What is true of a thing that is alone of its name, of these words."""
    known = [
        (thing, word)
        for place, thing in enumerate(scene.things)
        for word in thing.attributes
        if word in words and _single(scene, place)
    ]
    if not known:
        return None
    thing, word = known[rng.integers(len(known))]
    return pick(questions, rng).format(_the(thing)), word


def _absent(scene: Scene, rng: np.random.Generator) -> str:
    there = {thing.name for thing in scene.things}
    return pick(tuple(name for name in scene.names if name not in there), rng)


def _single(scene: Scene, place: int) -> bool:
    return sum(thing.name == scene.things[place].name for thing in scene.things) == 1


def _the(thing: SceneThing) -> str:
    return f"the {BY_NAME[thing.name].singular}"

"""Captions of a scene from a small grammar: of differing length and wording, and always true."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np

from demo.scenes import SIZES, Relation, Scene, SceneThing
from demo.things import THINGS

BY_NAME = {thing.name: thing for thing in THINGS}
NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
OPENINGS = (
    "{}",
    "a picture of {}",
    "an image with {}",
    "this picture shows {}",
    "here you can see {}",
    "in the picture: {}",
    "a scene of {}",
)
# Each says the same as its key. All are read from the subject to the object.
WORDINGS = {
    "left of": ("left of", "to the left of", "on the left side of"),
    "right of": ("right of", "to the right of", "on the right side of"),
    "above": ("above", "higher up than", "somewhere over"),
    "below": ("below", "lower down than", "somewhere beneath"),
    "in front of": ("in front of", "partly hiding", "covering a part of"),
    "behind": ("behind", "partly hidden by", "partly behind"),
}
ACROSS, DOWN = ("left", "middle", "right"), ("top", "middle", "bottom")


def english(scene: Scene, rng: np.random.Generator, count: int = 5) -> list[str]:
    """Different captions of one scene: one that lists everything, then parts, colours, relations and numbers."""
    kinds: list[Callable[[Scene, np.random.Generator], str]] = [inventory, one_thing, relation, number, long]
    captions: list[str] = []
    while len(captions) < count:
        text = finish(kinds[len(captions) % len(kinds)](scene, rng), rng)
        if text.lower().rstrip(".") in {other.lower().rstrip(".") for other in captions}:
            text = finish(
                place(scene, rng), rng
            )  # a scene of one plain thing: there is not much to say but where it is
        if text not in captions:
            captions.append(text)
    return [captions[i] for i in rng.permutation(count)]


def finish(text: str, rng: np.random.Generator) -> str:
    """Half of the captions look like sentences, half like labels."""
    return f"{text[0].upper()}{text[1:]}." if rng.random() < 0.5 else text


def inventory(scene: Scene, rng: np.random.Generator) -> str:
    """Every thing, counted by name: "a picture of two dogs, a red bus and a tree"."""
    groups = Counter(thing.name for thing in scene.things)
    names = [list(groups)[i] for i in rng.permutation(len(groups))]
    phrases = [group([thing for thing in scene.things if thing.name == name], rng) for name in names]
    return pick(OPENINGS, rng).format(listed(phrases))


def one_thing(scene: Scene, rng: np.random.Generator) -> str:
    """One thing with what is known about it: "there is a small green frog"."""
    thing = scene.things[rng.integers(len(scene.things))]
    templates = ("{}", "there is {}", "{} in the picture", "one of the things is {}", "a photo with {}", "look, {}")
    return pick(templates, rng).format(phrase(thing, rng, share=1.0))


def relation(scene: Scene, rng: np.random.Generator) -> str:
    """How two things lie: "a red bus to the left of a tree". Where there are none, what there is."""
    if not scene.relations:
        return place(scene, rng)
    held = scene.relations[rng.integers(len(scene.relations))]
    return pick(("{} is {} {}", "{} {} {}", "{}, {} {}", "there is {} {} {}"), rng).format(*related(scene, held, rng))


def number(scene: Scene, rng: np.random.Generator) -> str:
    """How many things there are, and how many of them share a word: "five things, two of them large"."""
    total = len(scene.things)
    head = f"{NUMBERS[total]} {pick(('thing', 'object'), rng)}{'' if total == 1 else 's'}"
    head = pick(("{}", "exactly {}", "a picture with {}", "{} in all"), rng).format(head)
    words = Counter(word for thing in scene.things for word in thing.attributes)
    # Only sizes can be counted: a thing of several colours has no colour word, though a part of it may be red.
    shared = [word for word in SIZES if words[word]]
    if total == 1 or not shared or rng.random() < 0.3:
        return f"{head}: {inventory_plain(scene)}" if rng.random() < 0.8 else head
    word = pick(tuple(shared), rng)
    count = "all" if words[word] == total else NUMBERS[words[word]]
    return f"{head}, {count} of them {word}"


def long(scene: Scene, rng: np.random.Generator) -> str:
    """Everything, then a relation or a place: the longest captions."""
    if not scene.relations:
        return f"{inventory(scene, rng)}; {place(scene, rng)}"
    held = scene.relations[rng.integers(len(scene.relations))]
    subject, wording, other = related(scene, held, rng)
    return f"{inventory(scene, rng)}; {subject} is {wording} {other}"


def place(scene: Scene, rng: np.random.Generator) -> str:
    """In which ninth of the picture a thing's visible box has its centre."""
    thing = scene.things[rng.integers(len(scene.things))]
    where = ninth(thing, scene)
    return pick(("{} {}", "{} {} of the picture", "{} is {}"), rng).format(phrase(thing, rng), where)


def ninth(thing: SceneThing, scene: Scene) -> str:
    height, width = scene.owner.shape
    x, y = (thing.box[0] + thing.box[2]) / 2, (thing.box[1] + thing.box[3]) / 2
    across, down = ACROSS[int(3 * x / width)], DOWN[int(3 * y / height)]
    if across == "middle":
        return "in the middle" if down == "middle" else f"at the {down}"
    return f"on the {across}" if down == "middle" else f"at the {down} {across}"


def related(scene: Scene, held: Relation, rng: np.random.Generator) -> tuple[str, str, str]:
    subject, other = scene.things[held.subject], scene.things[held.object]
    wording = pick(WORDINGS[held.predicate], rng)
    if subject.name == other.name:
        return phrase(subject, rng), wording, f"another {BY_NAME[other.name].singular}"
    return phrase(subject, rng), wording, phrase(other, rng)


def phrase(thing: SceneThing, rng: np.random.Generator, share: float = 0.6) -> str:
    """A noun phrase that is true of the thing. Each of its words is said in `share` of the cases.

    Always with an indefinite article: it claims that there is such a thing, not that there is only one.
    """
    said = [word for word in reversed(thing.attributes) if rng.random() < share]  # size first, then colour
    words = " ".join([*said, BY_NAME[thing.name].singular])
    return f"{'an' if words[0].lower() in 'aeiou' else 'a'} {words}"


def group(things: list[SceneThing], rng: np.random.Generator) -> str:
    """All things of one name: "a red bus", "three dogs", or "three red dogs" if all are red."""
    if len(things) == 1:
        return phrase(things[0], rng)
    common = [word for word in reversed(things[0].attributes) if all(word in thing.attributes for thing in things)]
    said = [word for word in common if rng.random() < 0.6]
    return " ".join([NUMBERS[len(things)], *said, BY_NAME[things[0].name].plural])


def inventory_plain(scene: Scene) -> str:
    """All names with their numbers, without a further word."""
    groups = Counter(thing.name for thing in scene.things)
    return listed([counted(name, count) for name, count in groups.items()])


def counted(name: str, count: int) -> str:
    thing = BY_NAME[name]
    return f"{NUMBERS[count]} {thing.singular if count == 1 else thing.plural}"


def listed(phrases: list[str]) -> str:
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def pick(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]

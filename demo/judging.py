"""Whether a caption of the grammar (captions.py) is true of a scene, by the scene's truth: for measuring negatives."""

from __future__ import annotations

import re
from collections.abc import Sequence

from demo.captions import ACROSS, BY_NAME, DOWN, NUMBERS, OPENINGS, WORDINGS, ninth
from demo.scenes import ATTRIBUTES, SIZES, Scene, SceneThing


def _any_of(words: Sequence[str]) -> str:
    return "|".join(sorted(map(re.escape, words), key=len, reverse=True))


ONE = {thing.singular.lower(): name for name, thing in BY_NAME.items()}
MANY = {thing.plural.lower(): name for name, thing in BY_NAME.items()}
SAID = f"((?:(?:{_any_of(ATTRIBUTES)}) )*)"
PHRASE = re.compile(f"(?:an?|another) {SAID}({_any_of(list(ONE))})")
GROUP = re.compile(f"({_any_of(NUMBERS)}) {SAID}({_any_of([*MANY, *ONE])})")
PREDICATES = {wording: predicate for predicate, wordings in WORDINGS.items() for wording in wordings}
RELATION = re.compile(f"(?:there is )?(.+?)(?: is|,)? ({_any_of(list(PREDICATES))}) (.+)")
NINTHS = ("in the middle", *(f"at the {down} {across}" for down in DOWN for across in ACROSS),
          *(f"at the {down}" for down in DOWN), *(f"on the {across}" for across in ACROSS))  # fmt: skip
PLACE = re.compile(f"(.+?)(?: is)? ({_any_of(NINTHS)})(?: of the picture)?")
NUMBER = re.compile(
    f"(?:exactly |a picture with )?({_any_of(NUMBERS)}) (?:thing|object)s?(?: in all)?"
    f"(?:: (.+)|, (all|{_any_of(NUMBERS)}) of them ({_any_of(SIZES)}))?"
)
ABOUT_ONE = ("there is {}", "{} in the picture", "one of the things is {}", "a photo with {}", "look, {}")
AROUND = [re.compile(re.escape(form.lower()).replace(r"\{\}", "(.+)")) for form in (*OPENINGS[1:], *ABOUT_ONE)]


class NoCaptionError(ValueError):
    """The text is none of the grammar."""


def is_true(text: str, scene: Scene) -> bool:
    """Whether all that the English caption claims holds for the scene. Raises NoCaptionError for any other text."""
    claims = text.lower().removesuffix(".").split("; ")
    return all(_claim(claim, scene) for claim in claims)


def _claim(text: str, scene: Scene) -> bool:
    if found := NUMBER.fullmatch(text):
        return _numbers(found, scene)
    if found := PLACE.fullmatch(text):  # before relations: "at the top right of the picture" is none
        phrase, where = found.groups()
        return any(ninth(scene.things[one], scene) == where for one in _meant(phrase, scene))
    if found := RELATION.fullmatch(text):
        subject, wording, other = found.groups()
        subjects, others = _meant(subject, scene), _meant(other, scene)
        held = {(one.subject, one.object) for one in scene.relations if one.predicate == PREDICATES[wording]}
        return any((one, two) in held for one in subjects for two in others)
    for form in AROUND:
        if inner := form.fullmatch(text):
            return _listed(inner[1], scene)
    return _listed(text, scene)


def _numbers(found: re.Match[str], scene: Scene) -> bool:
    total, inventory, count, size = found.groups()
    if NUMBERS.index(total) != len(scene.things):
        return False
    if size:
        sized = sum(size in thing.attributes for thing in scene.things)
        return sized == (len(scene.things) if count == "all" else NUMBERS.index(count))
    return not inventory or _listed(inventory, scene)


def _listed(text: str, scene: Scene) -> bool:
    """Whether each of "a red bus, two dogs and a tree" is there. Numbers are exact."""
    return all(_one_or_group(part, scene) for part in re.split(", | and ", text))


def _one_or_group(text: str, scene: Scene) -> bool:
    if PHRASE.fullmatch(text):
        return bool(_meant(text, scene))
    found = GROUP.fullmatch(text)
    if not found:
        raise NoCaptionError(text)
    number, said, noun = found.groups()
    name = MANY.get(noun) or ONE[noun]
    things = [thing for thing in scene.things if thing.name == name]
    return NUMBERS.index(number) == len(things) and all(_fits(thing, name, said) for thing in things)


def _meant(phrase: str, scene: Scene) -> list[int]:
    """The things that fit "a small red bus"."""
    found = PHRASE.fullmatch(phrase)
    if not found:
        raise NoCaptionError(phrase)
    said, noun = found.groups()
    return [number for number, thing in enumerate(scene.things) if _fits(thing, ONE[noun], said)]


def _fits(thing: SceneThing, name: str, said: str) -> bool:
    return thing.name == name and set(said.split()) <= set(thing.attributes)

"""Captions: each is read back by a parser of our own, and all that it says must hold."""

import itertools
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.captions import NUMBERS, WORDINGS, english
from demo.scenes import Scene, SceneThing, compose
from demo.things import COLOURS, THINGS, glyphs
from demo.translations import LANGUAGES, name_in, translated

FORMS = {form: thing.name for thing in THINGS for form in (thing.singular, thing.plural)}
NOUN = "|".join(sorted(map(re.escape, FORMS), key=len, reverse=True))
PHRASE = rf"(an?|another|one|two|three|four|five|six) (?:(small|large) )?(?:({'|'.join(COLOURS)}) )?({NOUN})\b"
SAYS = {wording: predicate for predicate, wordings in WORDINGS.items() for wording in wordings}
RELATION = rf"{PHRASE}(?: is |, | )({'|'.join(sorted(SAYS, key=len, reverse=True))}) {PHRASE}"
WHERE = r"(in the middle|on the (?:left|right)(?! side)|at the (?:top|bottom)(?: left| right)?)(?: of the picture)?"
PLACE = rf"{PHRASE}(?: is)? {WHERE}"
SHARE = r"(?:, (all|one|two|three|four|five) of them (small|large))?"
TOTAL = rf"(one|two|three|four|five|six) (?:thing|object)s?(?! is)(?: in all)?{SHARE}"
OPENINGS = r"picture|image|shows|here|you|can|see|in|the|scene|photo|with|of|there|is|look|this|and|exactly|an|a"
REST = rf"(?:{OPENINGS}|one|things|are)"


def scene_of(seed: int) -> Scene:
    return compose(seed, glyphs(), (), (160, 160))


def those(scene: Scene, words: tuple[str, ...]) -> list[int]:
    """The things that a noun phrase can mean: (article, size, colour, noun)."""
    _, size, colour, noun = words
    wanted = {word for word in (size, colour) if word}
    return [i for i, thing in enumerate(scene.things) if thing.name == FORMS[noun] and wanted <= set(thing.attributes)]


def holds(scene: Scene, words: tuple[str, ...]) -> bool:
    if words[0] in ("a", "an", "another"):
        return bool(those(scene, words))
    named = [thing for thing in scene.things if thing.name == FORMS[words[3]]]
    return len(those(scene, words)) == len(named) == NUMBERS.index(words[0])


def lies(one: SceneThing, other: SceneThing, predicate: str) -> bool:
    """Left, right, above and below from the boxes alone."""
    axis, sign = {"left of": (0, 1), "right of": (0, -1), "above": (1, 1), "below": (1, -1)}[predicate]
    first, second = (one, other) if sign == 1 else (other, one)
    centres = [abs(one.box[k] + one.box[k + 2] - other.box[k] - other.box[k + 2]) for k in (0, 1)]
    return first.box[axis + 2] < second.box[axis] and centres[axis] >= centres[1 - axis]


def related(scene: Scene, one: list[int], predicate: str, other: list[int]) -> bool:
    if predicate in ("in front of", "behind"):
        known = {(held.subject, held.predicate, held.object) for held in scene.relations}
        return any((i, predicate, j) in known for i, j in itertools.product(one, other))
    pairs = ((i, j) for i, j in itertools.product(one, other) if i != j)
    return any(lies(scene.things[i], scene.things[j], predicate) for i, j in pairs)


def placed(scene: Scene, thing: SceneThing, where: str) -> bool:
    height, width = scene.image.shape[:2]
    x, y = (thing.box[0] + thing.box[2]) / 2 / width, (thing.box[1] + thing.box[3]) / 2 / height
    across = "left" if "left" in where else "right" if "right" in where else "middle"
    down = "top" if "top" in where else "bottom" if "bottom" in where else "middle"
    in_third = {"left": (0, 1), "top": (0, 1), "middle": (1, 2), "right": (2, 3), "bottom": (2, 3)}
    return all(in_third[word][0] <= 3 * at <= in_third[word][1] for word, at in ((across, x), (down, y)))


def untrue(scene: Scene, caption: str) -> list[str]:
    """What the caption says that does not hold, and words that the parser does not know."""
    text = caption.rstrip(".")
    text = text[0].lower() + text[1:] if not text.startswith("American") else text
    wrong = []
    for match in re.finditer(RELATION, text):
        words = match.groups()
        if not related(scene, those(scene, words[:4]), SAYS[words[4]], those(scene, words[5:])):
            wrong.append(match.group())
    for match in re.finditer(PLACE, text):
        words = match.groups()
        if not any(placed(scene, scene.things[i], words[4]) for i in those(scene, words[:4])):
            wrong.append(match.group())
    wrong += [match.group() for match in re.finditer(PHRASE, text) if not holds(scene, match.groups())]
    rest = re.sub(PHRASE, "", re.sub(PLACE, "", re.sub(RELATION, "", text)))
    for match in re.finditer(TOTAL, rest):
        total, share, word = match.groups()
        sized = sum(word in thing.attributes for thing in scene.things)
        if NUMBERS.index(total) != len(scene.things) or (
            share and sized != (len(scene.things) if share == "all" else NUMBERS.index(share))
        ):
            wrong.append(match.group())
    return wrong + [word for word in re.findall(r"\w+", re.sub(TOTAL, "", rest)) if not re.fullmatch(REST, word)]


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_english_caption_is_true(seed: int) -> None:
    scene = scene_of(seed)
    for caption in english(scene, np.random.default_rng(seed)):
        assert untrue(scene, caption) == [], caption


def test_the_parser_of_this_test_sees_lies() -> None:
    scene = next(filter(plain, map(scene_of, range(999))))
    absent = next(thing for thing in THINGS if thing.name not in {seen.name for seen in scene.things})
    present = scene.things[0]
    assert untrue(scene, f"a {absent.singular}")
    assert untrue(scene, f"six {absent.plural} and a picture")
    assert untrue(scene, "six things")
    colour = next(word for word in COLOURS if all(word not in thing.attributes for thing in scene.things))
    assert untrue(scene, f"a {colour} {present.name}")
    assert untrue(scene, "something else")
    held = next(held for held in scene.relations if held.predicate in ("left of", "above"))
    one, other = scene.things[held.subject].name, scene.things[held.object].name
    assert untrue(scene, f"a {one} is {held.predicate} a {other}") == []
    assert untrue(scene, f"a {other} is {held.predicate} a {one}")


def plain(scene: Scene) -> bool:
    """Three different things whose names are their own singulars, and two of them beside each other."""
    names = {thing.name for thing in scene.things}
    beside = [held for held in scene.relations if held.predicate in ("left of", "above")]
    return len(names) == len(scene.things) == 3 and bool(beside) and names <= set(FORMS)


def test_five_captions_of_a_scene_differ_in_wording_and_length() -> None:
    lengths = set()
    for seed in range(60):
        captions = english(scene_of(seed), np.random.default_rng(seed))
        assert len({caption.lower() for caption in captions}) == 5
        lengths |= {len(caption.split()) for caption in captions}
    assert min(lengths) <= 3
    assert max(lengths) >= 25


def test_the_same_seed_gives_the_same_captions() -> None:
    first, second = (english(scene_of(3), np.random.default_rng(9)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_class_has_a_name_of_its_own(language: str) -> None:
    names = [name_in(language, thing.name) for thing in THINGS]
    assert len(set(names)) == len(THINGS)
    assert all(name.strip() == name and "_" not in name and ":" not in name for name in names)
    assert language != "de" or all(name[0].isupper() for name in names)
    # "red apple" would be false of an apple that was tinted green
    assert not {word.lower() for name in names for word in name.split()} & set(LANGUAGES[language].words.values()) - {
        "rosa",
        "rose",
    }


@pytest.mark.parametrize("language", LANGUAGES)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_translated_caption_is_true(language: str, seed: int) -> None:
    scene = scene_of(seed)
    caption = translated(scene, language, np.random.default_rng(seed))
    names = {name_in(language, thing.name): thing.name for thing in THINGS}
    words = {label: word for word, label in LANGUAGES[language].words.items()}
    counts = Counter(thing.name for thing in scene.things)
    rest = caption[0].lower() + caption[1:] if language in ("es", "fr") else caption
    said = []
    noun = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    counted = rf"({noun})×(\d)" if language == "zh" else rf"(\d) × ({noun})"
    for match in re.finditer(counted, rest):
        name, count = match.groups() if language == "zh" else match.groups()[::-1]
        assert counts[names[name]] == int(count) > 1, caption
    rest = re.sub(counted, "", rest)
    described = rf"({noun})(?: ?[（(]([^)）]+)[)）])?"
    for name, labels in re.findall(described, rest):
        attributes = {words[label.split()[-1]] for label in re.split(r", |、", labels) if label}
        said.append(
            [i for i, t in enumerate(scene.things) if t.name == names[name] and attributes <= set(t.attributes)]
        )
        assert said[-1], caption
    rest = re.sub(described, "", rest)
    for number in re.findall(r"\d", rest):
        assert int(number) == len(scene.things), caption
    for predicate, pattern in LANGUAGES[language].relations.items():
        if re.sub(r"\{\d\}", "", pattern).lower() == rest.lower().strip() and len(said) == 2:
            assert related(scene, said[0], predicate, said[1]), caption

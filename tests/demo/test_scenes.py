"""Scenes: the truth against brute force over the layers, seeds, and disjoint backgrounds."""

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.backdrops import SAMPLE, TRAINING, backgrounds
from demo.scenes import (
    ATTRIBUTES,
    LARGE_FROM,
    MIN_VISIBLE,
    RELATIONS,
    SMALL_BELOW,
    Layer,
    arrange,
    compose,
    relations,
)
from demo.things import CLASSES, COLOURS, ThingClass, glyph, glyphs, tint
from pairloom.table import Array

SIZES = st.sampled_from([(320, 320), (320, 240), (200, 300)])


def painters(layers: list[Layer], size: tuple[int, int]) -> tuple[Array, list[set[tuple[int, int]]]]:
    """Who is seen at each pixel, and every thing's own pixels, by walking over all pixels in Python."""
    seen: Array = np.full(size[::-1], -1)
    own: list[set[tuple[int, int]]] = []
    for number, layer in enumerate(layers):
        pixels = set()
        for y, x in itertools.product(*map(range, layer.pixels.shape[:2])):
            if layer.pixels[y, x, 3] >= 128:
                at = (layer.top + y, layer.left + x)
                pixels.add(at)
                if 0 <= at[0] < size[1] and 0 <= at[1] < size[0]:
                    seen[at] = number
        own.append(pixels)
    return seen, own


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32), size=SIZES)
def test_boxes_and_visible_shares_equal_brute_force(seed: int, size: tuple[int, int]) -> None:
    scene = compose(seed, glyphs(), (), size)
    layers = replay(seed, size)
    seen, own = painters(layers, size)
    assert np.array_equal(scene.owner.astype(int) - 1, seen)
    assert len(scene.things) == len(layers)
    for number, (thing, pixels) in enumerate(zip(scene.things, own, strict=True)):
        visible = [(y, x) for y, x in pixels if 0 <= y < size[1] and 0 <= x < size[0] and seen[y, x] == number]
        ys, xs = [y for y, _ in visible], [x for _, x in visible]
        assert list(thing.box) == [min(xs), min(ys), max(xs) + 1, max(ys) + 1]
        assert thing.visible == pytest.approx(len(visible) / len(pixels))
        assert thing.visible >= MIN_VISIBLE
        ys, xs = [y for y, _ in pixels], [x for _, x in pixels]
        extent = (max(max(ys) - min(ys), max(xs) - min(xs)) + 1) / min(size)
        assert ("small" in thing.attributes) == (extent < SMALL_BELOW)
        assert ("large" in thing.attributes) == (extent >= LARGE_FROM)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32), size=SIZES)
def test_in_front_of_means_seen_over_the_other_thing(seed: int, size: tuple[int, int]) -> None:
    scene = compose(seed, glyphs(), (), size)
    seen, own = painters(replay(seed, size), size)
    expected = set()
    for front, behind in itertools.permutations(range(len(own)), 2):
        over = sum(1 for y, x in own[behind] if 0 <= y < size[1] and 0 <= x < size[0] and seen[y, x] == front)
        if over / len(own[behind]) >= 0.05:
            expected |= {(front, "in front of", behind), (behind, "behind", front)}
    found = {(r.subject, r.predicate, r.object) for r in scene.relations if r.predicate in ("in front of", "behind")}
    assert found == expected


def replay(seed: int, size: tuple[int, int]) -> list[Layer]:
    """The layers of compose(seed, glyphs(), (), size): the background draws first from the same generator."""
    from demo.backdrops import backdrop

    rng = np.random.Generator(np.random.PCG64(seed))
    backdrop(rng, (), size)
    return arrange(rng, glyphs(), size)[0]


def block(name: str, left: int, top: int, side: int) -> Layer:
    pixels = np.full((side, side, 4), 255, np.uint8)
    return Layer(glyph(ThingClass("", name, "", name, name, None, {}), pixels), None, pixels, left, top)


def said(layers: list[Layer]) -> set[tuple[int, str, int]]:
    from demo.scenes import _truth

    owner = np.zeros((100, 100), np.uint8)
    for i, layer in enumerate(layers):
        size = layer.pixels.shape[0]
        owner[layer.top : layer.top + size, layer.left : layer.left + size] = i + 1
    things = [_truth(layer, owner, i + 1) for i, layer in enumerate(layers)]
    return {(r.subject, r.predicate, r.object) for r in relations(layers, things, owner)}


def test_a_gap_along_the_longer_axis_decides_the_word() -> None:
    assert said([block("a", 10, 10, 20), block("b", 60, 20, 20)]) == {(0, "left of", 1), (1, "right of", 0)}
    assert said([block("a", 10, 10, 20), block("b", 20, 60, 20)]) == {(0, "above", 1), (1, "below", 0)}


def test_touching_things_are_not_clearly_beside_each_other() -> None:
    assert said([block("a", 10, 10, 20), block("b", 31, 10, 20)]) == set()
    assert said([block("a", 10, 10, 20), block("b", 32, 10, 20)]) != set()


def test_a_thing_over_another_is_in_front_of_it() -> None:
    assert said([block("a", 10, 10, 40), block("b", 20, 20, 20)]) == {(1, "in front of", 0), (0, "behind", 1)}


def test_the_same_seed_gives_the_same_scene_and_another_seed_another() -> None:
    photographs = backgrounds(SAMPLE)
    one, again, other = (compose(seed, glyphs(), photographs, (160, 160)) for seed in (5, 5, 6))
    assert np.array_equal(one.image, again.image)
    assert one.things == again.things
    assert one.relations == again.relations
    assert not np.array_equal(one.image, other.image)


def test_training_and_sample_share_no_photograph() -> None:
    assert not set(TRAINING) & set(SAMPLE)
    assert len(backgrounds(TRAINING)) >= 5
    assert len(backgrounds(SAMPLE)) >= 4


def test_the_vocabulary_is_about_a_hundred_different_classes() -> None:
    assert len(CLASSES) == len(set(CLASSES)) >= 100
    scenes = [compose(seed, glyphs(), (), (120, 120)) for seed in range(60)]
    assert {thing.name for scene in scenes for thing in scene.things} <= set(CLASSES)
    assert {word for scene in scenes for thing in scene.things for word in thing.attributes} <= set(ATTRIBUTES)
    assert {relation.predicate for scene in scenes for relation in scene.relations} == set(RELATIONS)


def test_one_to_six_things_a_scene() -> None:
    assert {len(compose(seed, glyphs(), (), (160, 160)).things) for seed in range(80)} == {1, 2, 3, 4, 5, 6}


def hue_name(rgb: Array) -> str:
    """A colour word for one mean colour, by rules of thumb of our own, not by the table of shades."""
    import colorsys

    hue, lightness, saturation = colorsys.rgb_to_hls(*(rgb / 255))
    if saturation < 0.15:
        return "black" if lightness < 0.3 else "white" if lightness > 0.75 else "grey"
    degrees = hue * 360
    names = ((20, "red"), (40, "orange"), (60, "yellow"), (170, "green"), (255, "blue"), (295, "purple"), (345, "pink"))
    return next((name for limit, name in names if degrees < limit), "red")


@pytest.mark.parametrize("colour", COLOURS)
def test_a_tint_makes_every_thing_that_colour(colour: str) -> None:
    for drawing in glyphs():
        pixels = tint(drawing, colour)
        assert np.array_equal(pixels[..., 3], drawing.pixels[..., 3])
        shown = pixels[pixels[..., 3] >= 128][:, :3]
        assert hue_name(np.median(shown, axis=0)) == colour, drawing.thing.name


def test_a_natural_colour_is_the_commonest_of_the_drawing() -> None:
    for drawing in glyphs():
        if drawing.thing.colour:
            assert drawing.thing.colour in COLOURS
            pixels = drawing.pixels[drawing.pixels[..., 3] >= 128][:, :3]
            names = [hue_name(pixel) for pixel in pixels[::23]]
            common = max(set(names), key=names.count)
            assert common == drawing.thing.colour, drawing.thing.name


def test_a_scene_takes_milliseconds() -> None:
    photographs = backgrounds(TRAINING)
    compose(0, glyphs(), photographs, (320, 320))
    began = time.process_time()
    for seed in range(40):
        compose(seed, glyphs(), photographs, (320, 320))
    assert (time.process_time() - began) / 40 < 0.03  # about 0.007 on one quiet core. Four times that on a busy one

"""Tags: what each image's regions are called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairloom.errors import ConfigError, SchemaError
from schemas.regions import REGIONS
from stages import tags
from stages.tags import Config

CLASSES = ["ball", "dog", "tree", "", "ball"]  # 3 has no name, 0 and 4 share one
ATTRIBUTES = ["red", "big", ""]

Region = tuple[int, float, int, float]  # class, score, attribute, score


def regions_table(images: list[list[Region]], **metadata: str) -> pa.Table:
    """A regions table of these images. Boxes and features are zeros."""
    facts = {
        "feature_width": "2",
        "prob_width": "1",
        "classes": json.dumps(CLASSES),
        "attributes": json.dumps(ATTRIBUTES),
    }
    counts = [len(image) for image in images]
    return REGIONS.table(
        metadata=facts | metadata,
        image_id=[i.to_bytes(16, "big") for i in range(len(images))],
        num_regions=counts,
        width=np.full(len(counts), 9, np.int32),
        height=np.full(len(counts), 9, np.int32),
        boxes=[np.zeros(4 * n) for n in counts],
        class_ids=[np.array([region[0] for region in image]) for image in images],
        class_scores=[np.array([region[1] for region in image]) for image in images],
        attribute_ids=[np.array([region[2] for region in image]) for image in images],
        attribute_scores=[np.array([region[3] for region in image]) for image in images],
        features=[np.zeros(2 * n) for n in counts],
        prob_ids=[np.zeros(n) for n in counts],
        prob_values=[np.zeros(n) for n in counts],
    )


def tagged(images: list[list[Region]], **settings: Any) -> list[list[dict[str, Any]]]:
    tools = tags.setup(Config(**settings), Path())
    rows: list[list[dict[str, Any]]] = tags.process(regions_table(images), tools)["tags"].to_pylist()
    return rows


def texts(images: list[list[Region]], **settings: Any) -> list[list[str]]:
    return [[tag["text"] for tag in image] for image in tagged(images, **settings)]


def test_a_tag_says_where_it_comes_from() -> None:
    ((tag,),) = tagged([[(1, 0.75, 0, 0.5)]])
    wanted = {"text": "red dog", "region": 0, "class_id": 1, "attribute_id": 0, "score": 0.75, "count": 1, "start": 0}
    assert tag == wanted


def test_an_unsure_attribute_is_left_out_and_its_id_is_null() -> None:
    ((tag,),) = tagged([[(1, 0.75, 0, 0.2)]], min_attribute_score=0.3)
    assert (tag["text"], tag["attribute_id"]) == ("dog", None)


def test_attributes_can_be_switched_off() -> None:
    assert texts([[(1, 0.75, 0, 0.9)]], with_attributes=False) == [["dog"]]


def test_words_without_a_name_give_no_tag() -> None:
    assert texts([[(3, 0.9, 0, 0.9), (1, 0.8, 2, 0.9)]]) == [["dog"]]


def test_a_repeated_text_is_kept_for_its_best_region_even_if_two_classes_share_the_name() -> None:
    image = [(4, 0.9, 0, 0.0), (0, 0.8, 0, 0.0), (0, 0.7, 0, 1.0), (4, 0.6, 0, 1.0)]
    assert texts([image]) == [["ball", "red ball"]]
    assert [tag["region"] for tag in tagged([image])[0]] == [0, 2]
    assert texts([image], dedupe=False) == [["ball", "ball", "red ball", "red ball"]]


def test_an_image_without_a_sure_region_has_no_tags_and_stays() -> None:
    assert texts([[(0, 0.1, 0, 0)], [], [(1, 0.5, 0, 0)]]) == [[], [], ["dog"]]


def test_no_images_give_no_rows() -> None:
    assert tags.process(REGIONS.empty(), tags.setup(Config(), Path())).num_rows == 0


def test_a_class_outside_the_vocabulary_is_an_error_that_the_guard_can_pin_on_its_row() -> None:
    with pytest.raises(ValueError, match="class 9 is not in the vocabulary of 5"):
        tagged([[(9, 0.5, 0, 0)]])


def test_regions_without_vocabularies_are_refused() -> None:
    table = regions_table([[(0, 0.5, 0, 0)]])
    with pytest.raises(SchemaError, match="does not name its classes"):
        tags.process(table.replace_schema_metadata(None), tags.setup(Config(), Path()))


@pytest.mark.parametrize(
    "setting", [{"min_score": 1.1}, {"min_attribute_score": -0.1}, {"max_tags": 0}, {"recipe": "none"}]
)
def test_settings_out_of_range_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        Config(**setting)


IMAGE = [(0, 0.9, 0, 0.9), (1, 0.5, 1, 0.9), (0, 0.3, 0, 0.1), (2, 0.1, 0, 0.9)]


def test_oscar_joins_all_class_names_best_first_doubles_too() -> None:
    assert texts([IMAGE], recipe="oscar") == [["ball", "dog", "ball", "tree"]]


def test_vinvl_and_unimo_leave_out_what_is_unsure() -> None:
    assert texts([IMAGE], recipe="vinvl") == [["ball", "dog", "ball"]]
    assert texts([IMAGE], recipe="unimo") == [["ball", "dog"]]


def test_a_recipe_can_be_changed_in_one_point() -> None:
    assert texts([IMAGE], recipe="oscar", dedupe=True) == [["ball", "dog", "tree"]]
    assert [tag["count"] for tag in tagged([IMAGE], recipe="oscar", dedupe=True)[0]] == [2, 1, 1]


def test_the_attribute_stands_before_the_class() -> None:
    assert texts([IMAGE]) == [["red ball", "big dog", "ball"]]


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_a_mapping_renames_merges_and_removes_words(tmp_path: Path, suffix: str) -> None:
    words = {"classes": {"dog": "small animal", "tree": ""}, "attributes": {"red": "crimson"}}
    path = tmp_path / f"words.{suffix}"
    path.write_text(json.dumps(words), encoding="utf-8")
    assert tags.resources(Config(mapping=str(path))) == (path,)
    assert texts([IMAGE], mapping=str(path)) == [["crimson ball", "big small animal", "ball"]]
    words["classes"] = {"dog": "ball"}
    path.write_text(json.dumps(words), encoding="utf-8")
    assert texts([IMAGE], mapping=str(path), with_attributes=False) == [["ball"]]


@pytest.mark.parametrize("content", ["- a\n", "classes: [a]\n", "things: {a: b}\n", "classes: {a: 1}\n", "{"])
def test_a_mapping_that_is_none_is_refused_before_any_work(tmp_path: Path, content: str) -> None:
    (tmp_path / "words.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"tags\.mapping"):
        tags.setup(Config(mapping=str(tmp_path / "words.yaml")), Path())


def test_the_first_of_several_synonyms_is_the_word() -> None:
    table = regions_table([[(0, 0.9, 0, 0.0)]], classes=json.dumps(["stop sign,stopsign"]))
    (row,) = tags.process(table, tags.setup(Config(), Path()))["tags"].to_pylist()
    assert [tag["text"] for tag in row] == ["stop sign"]


REGION = st.tuples(st.integers(0, 4), st.floats(0, 1, width=32), st.integers(0, 2), st.floats(0, 1, width=32))


def tagged_one_by_one(image: list[Region], config: Config) -> list[tuple[str, int]]:
    """The rule, written as a loop: (text, region) of each tag."""
    found: dict[tuple[str, int], None] = {}
    for region in sorted(range(len(image)), key=lambda region: (-image[region][1], region)):
        class_id, score, attribute_id, attribute_score = image[region]
        attribute = ATTRIBUTES[attribute_id] if attribute_score >= np.float32(0.3) else ""
        text = f"{attribute} {CLASSES[class_id]}".strip()
        repeated = config.dedupe and text in [known for known, _ in found]
        if score >= np.float32(config.rules().min_score) and CLASSES[class_id] and not repeated:
            found[text, region] = None
    return list(found)[: config.rules().max_tags]


@settings(deadline=None)
@given(
    images=st.lists(st.lists(REGION, max_size=12), max_size=5),
    min_score=st.floats(0, 1),
    dedupe=st.booleans(),
    max_tags=st.integers(1, 6),
)
def test_the_tags_are_those_of_the_rule(
    images: list[list[Region]], min_score: float, dedupe: bool, max_tags: int
) -> None:
    config = Config(min_score=min_score, dedupe=dedupe, max_tags=max_tags)
    rows = tags.process(regions_table(images), tags.setup(config, Path()))["tags"].to_pylist()
    found = [[(tag["text"], tag["region"]) for tag in row] for row in rows]
    assert found == [tagged_one_by_one(image, config) for image in images]


@settings(deadline=None)
@given(images=st.lists(st.lists(REGION, max_size=12), max_size=4), recipe=st.sampled_from(sorted(tags.RECIPES)))
def test_a_tag_lies_where_it_says_in_the_joined_string_and_links_to_its_region(
    images: list[list[Region]], recipe: str
) -> None:
    for image, row in zip(images, tagged(images, recipe=recipe), strict=True):
        joined = " ".join(tag["text"] for tag in row)
        for tag in row:
            assert joined[tag["start"] :].startswith(tag["text"])
            assert image[tag["region"]][0] == tag["class_id"]
        assert [tag["start"] for tag in row] == sorted(tag["start"] for tag in row)


@settings(deadline=None)
@given(images=st.lists(st.lists(REGION, max_size=12), max_size=4))
def test_counts_of_deduped_tags_add_up_to_the_tags_with_doubles(images: list[list[Region]]) -> None:
    once, all_of_them = tagged(images, dedupe=True, max_tags=255), tagged(images, dedupe=False, max_tags=255)
    assert [sum(tag["count"] for tag in row) for row in once] == [len(row) for row in all_of_them]


@settings(deadline=None)
@given(images=st.lists(st.lists(REGION, max_size=5), max_size=5))
def test_an_image_is_tagged_the_same_whatever_its_neighbours(images: list[list[Region]]) -> None:
    together = tagged(images)
    assert together == [tagged([image])[0] for image in images]

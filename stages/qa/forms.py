"""The published forms of questions, each told by its fields: VQA's, those of sets made after it, and LXMERT's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pairloom.errors import InputError
from stages.qa.answers import Answers, of_label, of_ten
from stages.qa.config import QuestionFile
from stages.qa.records import records

SUBSET = "data_subtype"
# Of VQA's files, and of TextVQA's, beside the list of questions.
HEADER = ("info", "task_type", "data_type", SUBSET, "license", "dataset_type", "dataset_name", "dataset_version")
LISTS = ("questions", "data")  # what that list is called
MOST_COMMON = "multiple_choice_answer"
Word = Callable[[str], str]  # how an answer is written before those of several people are compared
CALLED: dict[type, str] = {
    str: "a text", int: "a number", float: "a number", list: "a list", dict: "an object",
}  # fmt: skip
FORMS = (
    "VQA v2 and OK-VQA (questions, annotations), A-OKVQA (choices), TextVQA (data, image_classes), VizWiz (image), GQA "
    "(imageId), Visual Genome QA (qas) and LXMERT (sent and label, or sentf and labelf)"
)


@dataclass(frozen=True)
class Asked:
    """One question of a file, before its image is known."""

    image: str  # name of its image
    text: str
    answers: Answers
    source: str
    question_id: str
    where: str  # file and entry


@dataclass
class Reading:
    """What is known of a file while it is read."""

    source: QuestionFile
    word: Word = str.strip
    annotations: Mapping[str, Answers] = field(default_factory=dict)  # of VQA, by question id
    subset: str = ""  # of VQA: train2014 …
    where: str = ""

    def asked(self, form: str, image: str, text: str, answers: Answers, number: str) -> Asked:
        return Asked(image, text.strip(), answers, self.source.name or form, number, self.where)

    def value(self, record: Any, name: str, *kinds: type) -> Any:
        """A field of one of these types. Raises InputError."""
        found = record.get(name) if isinstance(record, Mapping) else None
        if not isinstance(found, kinds) or isinstance(found, bool):
            wanted = " or ".join(CALLED[kind] for kind in kinds)
            given = f"{name} is {str(found)[:80]!r}" if isinstance(record, Mapping) else f"it is {str(record)[:80]!r}"
            raise InputError(
                f"{given}, it should be {wanted}", self.where, "correct the entry, or fetch the file again"
            )
        return found


def read(source: QuestionFile, word: Word) -> Iterator[Asked]:
    """The questions of a file in its order. Raises InputError, with file, entry and cure, where it is of no known form.

    word: how an answer is written before ten people's are compared.
    """
    reading = Reading(source, word, _annotations(source, word) if source.annotations else {})
    matched = source.annotations is None
    for key, record in records(source.file, LISTS):
        reading.where = f"{source.file}, entry {key}"
        if key in HEADER:
            reading.subset = record if key == SUBSET else reading.subset
            continue
        for asked in _form_of(record, reading)(key, record, reading):
            matched |= asked.question_id in reading.annotations
            yield asked
    if not matched:
        given = f"it answers no question of {source.file}"
        raise InputError(given, str(source.annotations), "name the annotations of the same split (qa.sources)")


def _form_of(record: Any, reading: Reading) -> Callable[[str | int, Any, Reading], Iterator[Asked]]:
    for name, form in BY_FIELD.items():
        if isinstance(record, Mapping) and name in record:
            return form
    given = f"the entry is {str(record)[:80]!r}"
    raise InputError(f"{given}, which is not one of the known forms", reading.where, f"known are {FORMS}")


def _annotations(source: QuestionFile, word: Word) -> dict[str, Answers]:
    """VQA's answers by question id."""
    reading, found = Reading(source, word), {}
    for key, record in records(str(source.annotations), ("annotations",)):
        if key in HEADER:
            continue
        reading.where = f"{source.annotations}, entry {key}"
        number = str(reading.value(record, "question_id", int, str))
        most_common = reading.value(record, MOST_COMMON, str) if MOST_COMMON in record else None  # OK-VQA has none
        given = reading.value({"answers": [{"answer": most_common}], **record}, "answers", list)
        texts = [reading.value(one, "answer", str) for one in given]
        found[number] = _of_people(texts, most_common, word)
    return found


def _of_people(texts: Sequence[str], most_common: str | None, word: Word) -> Answers:
    said = [text for text in map(word, texts) if text]
    return of_ten(said, None if most_common is None else word(most_common))


def _vqa(key: str | int, record: Mapping[str, Any], reading: Reading) -> Iterator[Asked]:
    number = str(reading.value(record, "question_id", int, str))
    image = reading.value(record, "image_id", int, str)
    named = reading.source.image or reading.source.names
    if not named and not reading.subset:
        reading.subset = _subset(reading.source.file)
    if not named and not reading.subset:
        given = "the file does not say data_subtype, and so not how the images are called"
        raise InputError(given, reading.where, 'set image of qa.sources, as "{:0>12}"')
    image = str(image) if named else f"COCO_{reading.subset}_{image:0>12}"
    text = reading.value(record, "question", str)
    yield reading.asked("vqa", image, text, reading.annotations.get(number, ()), number)


def _subset(file: str) -> str:
    """What the whole file says of it: it may stand behind the questions."""
    said = [value for key, value in records(file, LISTS) if key == SUBSET]
    return str(said[0]) if said else ""


def _aokvqa(key: str | int, record: Mapping[str, Any], reading: Reading) -> Iterator[Asked]:
    """A-OKVQA: ten direct answers, of which the right choice goes first among equals. COCO's names of 2017."""
    number, text = reading.value(record, "question_id", str), reading.value(record, "question", str)
    image = str(reading.value(record, "image_id", int, str))
    choices = reading.value(record, "choices", list)
    right = (
        reading.value(record, "correct_choice_idx", int) if "correct_choice_idx" in record else None
    )  # test has none
    if right is not None and not 0 <= right < len(choices):
        given = f"correct_choice_idx is {right} of {len(choices)} choices"
        raise InputError(given, reading.where, "correct the entry, or fetch the file again")
    answers = _texts(record, "direct_answers", reading)
    name = image if reading.source.image or reading.source.names else f"{image:0>12}"
    most_common = None if right is None else reading.value({"choice": choices[right]}, "choice", str)
    yield reading.asked("aokvqa", name, text, _of_people(answers, most_common, reading.word), number)


def _textvqa(key: str | int, record: Mapping[str, Any], reading: Reading) -> Iterator[Asked]:
    image, text = reading.value(record, "image_id", str), reading.value(record, "question", str)
    answers = _of_people(_texts(record, "answers", reading), None, reading.word)
    yield reading.asked("textvqa", image, text, answers, str(reading.value(record, "question_id", int, str)))


def _vizwiz(key: str | int, record: Mapping[str, Any], reading: Reading) -> Iterator[Asked]:
    """VizWiz has one question a picture, which has no number of its own."""
    image, text = reading.value(record, "image", str), reading.value(record, "question", str)
    given = reading.value(record, "answers", list) if "answers" in record else []  # its test has none
    answers = _of_people([reading.value(one, "answer", str) for one in given], None, reading.word)
    yield reading.asked("vizwiz", image, text, answers, image)


def _texts(record: Mapping[str, Any], name: str, reading: Reading) -> list[str]:
    """A list of texts. None where the field is missing, as in test splits."""
    found = reading.value(record, name, list) if name in record else []
    return [reading.value({name: one}, name, str) for one in found]


def _gqa(key: str | int, record: Mapping[str, Any], reading: Reading) -> Iterator[Asked]:
    image, text = str(reading.value(record, "imageId", str, int)), reading.value(record, "question", str)
    known = "answer" in record  # the questions of its test have none
    answers = ((reading.value(record, "answer", str), 1.0),) if known else ()
    yield reading.asked("gqa", image, text, answers, str(key))


def _visual_genome(key: str | int, record: Mapping[str, Any], reading: Reading) -> Iterator[Asked]:
    image = str(reading.value(record, "id" if "id" in record else "image_id", int, str))
    for qa in reading.value(record, "qas", list):
        text, answer = reading.value(qa, "question", str), reading.value(qa, "answer", str)
        yield reading.asked("vg", image, text, ((answer, 1.0),), str(reading.value(qa, "qa_id", int, str)))


def _lxmert(key: str | int, record: Mapping[str, Any], reading: Reading) -> Iterator[Asked]:
    """The files of its fine-tuning: one sentence an entry, a label where the answer is known."""
    image, text = reading.value(record, "img_id", str), reading.value(record, "sent", str)
    answers = _label(record["label"], reading) if "label" in record else ()
    yield reading.asked("lxmert", image, text, answers, str(reading.value(record, "question_id", int, str)))


def _lxmert_corpus(key: str | int, record: Mapping[str, Any], reading: Reading) -> Iterator[Asked]:
    """The files of its pre-training: sentences and labels by source. A source without labels has captions."""
    image, sentences = reading.value(record, "img_id", str), reading.value(record, "sentf", dict)
    for name, labels in reading.value(record, "labelf", dict).items():
        texts = reading.value(sentences, name, list)
        if len(texts) != len(reading.value({name: labels}, name, list)):
            given = f"{name} has {len(texts)} sentences and {len(labels)} labels"
            raise InputError(given, reading.where, "give each sentence one label")
        for place, (text, label) in enumerate(zip(texts, labels, strict=True)):
            text = reading.value({name: text}, name, str)
            yield reading.asked(name, image, text, _label(label, reading), f"{image}_{name}_{place:03d}")  # its own uid


def _label(label: Any, reading: Reading) -> Answers:
    scores = reading.value({"label": label}, "label", dict)
    for answer in scores:
        reading.value(scores, answer, int, float)
    return of_label(scores)


BY_FIELD = {  # the field that only this form has
    "qas": _visual_genome,
    "sentf": _lxmert_corpus,
    "sent": _lxmert,
    "imageId": _gqa,
    "choices": _aokvqa,
    "image_classes": _textvqa,
    "image": _vizwiz,
    "question_id": _vqa,
}

"""Reads the files of questions once, finds the image of each, and keeps what the workers of stage `qa` open."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairloom.errors import InputError
from schemas.qa import QUESTION
from schemas.quarantine import QUARANTINE
from stages.contract import Corpus
from stages.qa import matching
from stages.qa.answers import Answers, merged, normalised, published, vocabulary
from stages.qa.config import Config
from stages.qa.forms import Asked, read
from stages.qa.matching import Names
from stages.rejects import Reject, quarantine

QUESTIONS, LEFT_OUT, FACTS = "questions.arrow", "left-out.arrow", "facts.json"
AT_ONCE = 1 << 16  # questions that are Python objects at a time
FOUND = pa.schema([pa.field("image_id", pa.binary(16), nullable=False), pa.field("question", QUESTION, nullable=False)])


@dataclass(frozen=True)
class Gathered:
    """The questions that found their image, and those that did not."""

    questions: pa.StructArray  # schemas.qa.QUESTION, in the order of image_id
    places: Mapping[bytes, tuple[int, int]]  # image_id -> first of its questions and the one behind the last
    left_out: pa.Table  # quarantine
    first: bytes  # the corpus's first image, in whose quarantine those left out are listed
    answers: Sequence[str]  # the classes of an answer, the most frequent first


@dataclass
class Seen:
    """What is counted while the files are read."""

    matched: int = 0
    best: Counter[str] = field(default_factory=Counter)  # how often each answer is the best of a question
    lost: str = ""  # a name that no image has


def gather(corpus: Corpus, config: Config, folder: Path) -> None:
    """Read every file, and write what `opened` opens. Raises InputError, also where no question found an image."""
    known, seen = matching.images(corpus, config), Seen()
    asked = _asked(config, known, seen)
    parts, left_out = [FOUND.empty_table()], [QUARANTINE.empty()]
    while some := list(islice(asked, AT_ONCE)):
        left_out.append(quarantine("qa", [one for one in some if isinstance(one, Reject)]))
        parts.append(pa.Table.from_pylist([one for one in some if not isinstance(one, Reject)], schema=FOUND))
    if not seen.matched:
        _refuse(known, seen, config)
    found = pa.concat_tables(parts)
    _write(found.take(pc.sort_indices(found, [("image_id", "ascending")])), folder / QUESTIONS)
    _write(pa.concat_tables(left_out), folder / LEFT_OUT)
    counted = vocabulary(seen.best, config.max_answers, config.min_answer_count)
    answers = published(config.answers) if config.answers else counted
    if not answers:
        _refuse_no_answer(seen, config)
    facts = {"answers": answers, "first": _first(corpus).hex()}
    (folder / FACTS).write_text(json.dumps(facts, ensure_ascii=False), encoding="utf-8")


def opened(folder: Path) -> Gathered:
    """What `gather` wrote, mapped into memory."""
    found, left_out = (pa.ipc.open_file(pa.memory_map(str(folder / name))).read_all() for name in (QUESTIONS, LEFT_OUT))
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    counts = pc.value_counts(found["image_id"].combine_chunks())  # in the order of first appearance, which is sorted
    ends = np.cumsum([0, *counts.field("counts").to_pylist()]).tolist()
    places = dict(zip(counts.field("values").to_pylist(), pairwise(ends), strict=True))
    return Gathered(
        found["question"].combine_chunks(), places, left_out, bytes.fromhex(facts["first"]), facts["answers"]
    )


def _asked(config: Config, known: Mapping[str | None, Names], seen: Seen) -> Iterator[dict[str, Any] | Reject]:
    """The questions of all files in their order, each as a row of FOUND or as one that found no image."""
    word = normalised if config.normalise else str.strip
    for source in config.sources:
        own = matching.names(source)
        for asked in read(source, word):
            name = matching.called(asked.image, source, own)
            yield _placed(asked, name, known[source.of], merged(asked.answers, word), seen)


def _placed(asked: Asked, name: str, known: Names, answers: Answers, seen: Seen) -> dict[str, Any] | Reject:
    image_id = known.get(name)
    question = {
        "text": asked.text,
        "answers": [{"text": text, "score": score} for text, score in answers],
        "source": asked.source,
        "question_id": asked.question_id,
    }
    if image_id is not None and asked.text:
        seen.matched += 1
        seen.best.update(text for text, _ in answers[:1])
        return {"image_id": image_id, "question": question}
    if not asked.text:
        return Reject(asked.question_id, "no-question", asked.where, question)
    seen.lost = seen.lost or name
    reason = "several-images" if name in known else "no-image"
    return Reject(asked.question_id, reason, f"{name or asked.image!r}, asked for by {asked.where}", question)


def _refuse(known: Mapping[str | None, Names], seen: Seen, config: Config) -> None:
    ours = next((name for names in known.values() for name in names), None)
    raise InputError(
        f"no question found its image: one asks for {seen.lost!r}, "
        + (f"while an image is called {ours!r}" if ours else f"and no image has a name by qa.match: {config.match}"),
        ", ".join(source.file for source in config.sources),
        "set image or names of qa.sources so that they give the images' names, or qa.match: docs/reference/qa.md",
    )


def _refuse_no_answer(seen: Seen, config: Config) -> None:
    often = [f"the most frequent, {answer!r}, is that of {count}" for answer, count in seen.best.most_common(1)]
    raise InputError(
        f"no answer is the best one of {config.min_answer_count} questions: {(often or ['none has one'])[0]}",
        ", ".join(source.file for source in config.sources),
        "lower qa.min_answer_count, or name files whose questions have answers",
    )


def _first(corpus: Corpus) -> bytes:
    """The id of the corpus's first image. Empty if there is none."""
    ids = (table["image_id"][0].as_py() for _, table in corpus.tables("curate", ["image_id"]) if table.num_rows)
    return next(ids, b"")


def _write(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_file(path, table.schema) as file:
        file.write_table(table)

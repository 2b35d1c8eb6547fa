"""Stage `qa`: questions about the images with their answers, from the published files of question answering.

No part of `dvc repro`: two recipes need it, and the files are the user's (docs/reference/qa.md).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.qa import QA, QUESTION
from stages.contract import Corpus, Scope
from stages.qa.config import Config, QuestionFile
from stages.qa.gathering import Gathered, gather, opened

INPUTS = ("curate",)
ASKS = ("download",)
OUTPUT = QA
VERSION = 2
COLUMNS = {"download": ("image_id",)}  # `index` reads the names
ASKED_BY = {"qa": "qa.sources: [{file: QUESTIONS.json}]"}
SCOPE: Scope = "all"  # which questions find no image, and which answers are frequent, depends on every shard

__all__ = [
    "ASKED_BY",
    "ASKS",
    "COLUMNS",
    "INPUTS",
    "OUTPUT",
    "SCOPE",
    "VERSION",
    "Config",
    "QuestionFile",
    "index",
    "inputs",
    "process",
    "resources",
    "setup",
    "summary",
]


def inputs(config: Config) -> tuple[str, ...]:
    """With `download` where an image may have several names."""
    return (*INPUTS, *(("download",) if config.all_names else ()))


def resources(config: Config) -> tuple[Path, ...]:
    """Every file of questions, answers and names."""
    named = (Path(config.answers),) if config.answers else ()
    return (*named, *(path for source in config.sources for path in dict.fromkeys(source.paths())))


def index(corpus: Corpus, config: Config, folder: Path) -> None:
    """Read all files once and find the image of each question.

    Raises InputError, with file, entry and cure, if a file is of no known form, or no question found an image.
    """
    gather(corpus, config, folder)


def setup(config: Config, folder: Path) -> Gathered:
    """Map what `index` wrote into memory."""
    return opened(folder)


def process(curate: pa.Table, *others_and_tools: Any) -> tuple[pa.Table, pa.Table]:
    """The questions about each image in the order of the files; with the first image those that found none.

    others_and_tools: the other tables of `inputs`, which only `index` needs, and what `setup` opened.
    """
    tools: Gathered = others_and_tools[-1]
    ids = curate["image_id"].to_pylist()
    spans = [tools.places.get(image_id, (0, 0)) for image_id in ids]
    rows = np.array([row for span in spans for row in range(*span)], np.int64)
    ends = np.cumsum([0, *(stop - start for start, stop in spans)]).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(ends), tools.questions.take(pa.array(rows)))
    answers = json.dumps(tools.answers, ensure_ascii=False)
    notes = dict(zip(QA.metadata, (answers, str(len(tools.answers))), strict=True))
    left_out = tools.left_out if tools.first in ids else tools.left_out.slice(0, 0)
    return QA.table(metadata=notes, image_id=ids, qa=lists.cast(pa.list_(QUESTION))), left_out


def summary(corpus: Corpus) -> dict[str, Any]:
    """How many images have questions, how many of these have answers, and where they are from."""
    images = questions = answered = 0
    sources: dict[str, int] = {}
    for _, table in corpus.tables("qa", ["qa"]):
        for asked in table["qa"].to_pylist():
            images += bool(asked)
            questions += len(asked)
            answered += sum(bool(question["answers"]) for question in asked)
            for question in asked:
                sources[question["source"]] = sources.get(question["source"], 0) + 1
    return {"images": images, "questions": questions, "answered": answered, "sources": dict(sorted(sources.items()))}

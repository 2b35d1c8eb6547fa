"""The settings of stage `qa`: which files of questions, and how their images are found among ours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pairloom.errors import ConfigError
from pairloom.typed import Positive, check_ranges
from stages.contract import A_PATH


@dataclass(frozen=True, kw_only=True)
class QuestionFile:
    """One published file of questions; docs/reference/qa.md has the forms."""

    file: str = field(metadata=A_PATH)  # the questions, with their answers unless `annotations` has these
    annotations: str | None = field(default=None, metadata=A_PATH)  # VQA's second file, which has the answers
    image: str | None = None  # name of an image from its id in the file, as "{:0>12}"; null: the form's own rule
    # instead: a JSON file that maps an id in the file to the image's name
    names: str | None = field(default=None, metadata=A_PATH)
    of: str | None = None  # only images whose column `source` says this
    name: str | None = None  # what the questions' `source` says; null: the form's name

    def __post_init__(self) -> None:
        if self.image is not None and self.names is not None:
            raise ConfigError(f"{self.file} has both image and names", "params.yaml, qa.sources", "set one of them")
        try:
            varies = self.image is None or self.image.format("1") != self.image.format("2")
        except (ValueError, LookupError, AttributeError) as error:
            raise ConfigError(
                f"image is {self.image!r}: {error}", "params.yaml, qa.sources", 'write {} for the id, or "{:0>12}"'
            ) from error
        if not varies:
            raise ConfigError(f"image is {self.image!r}", "params.yaml, qa.sources", "write {} where the id stands")

    def paths(self) -> Iterator[Path]:
        """Every file that is read."""
        yield from (Path(file) for file in (self.file, self.annotations, self.names) if file is not None)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Section `qa` of params.yaml."""

    sources: tuple[QuestionFile, ...]  # the files of questions, one mapping each
    # what names an image, whatever its folder and ending: the last part of its `url`, or of this key of `extra`
    match: str = "url"
    # an image has the names of all rows of `download` with its bytes; false: of the one row that curate keeps of them
    all_names: bool = True
    # answers as VQA's evaluation compares them: without capitals, articles and marks. "two" is "2"
    normalise: bool = True
    max_answers: Positive = 9500  # number of answer classes, the most frequent answers, the default is LXMERT's
    # how often an answer must be the best one of a question. 9 is the usual threshold on VQA, LXMERT's is not published
    min_answer_count: Positive = 9
    # instead: the answers of this JSON list, such as LXMERT's all_ans.json, in its order
    answers: str | None = field(default=None, metadata=A_PATH)

    def __post_init__(self) -> None:
        check_ranges(self)
        files = [str(path) for source in self.sources for path in source.paths() if str(path) != source.names]
        doubled = sorted({file for file in files if files.count(file) > 1})
        if not files or doubled:
            given = f"qa.sources names {doubled[0]} twice" if doubled else "qa.sources is empty"
            raise ConfigError(given, "params.yaml", "name each file of questions once: - {file: questions.json}")

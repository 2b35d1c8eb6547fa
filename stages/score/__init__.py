"""Stage `score`: what a dual encoder says of each picture and its captions, before anything is left out.

It reads what was downloaded, because curate chooses by scores. So texts are cleaned here as curate cleans them, and
whoever uses the table looks a caption up by its image and its text (stages/score/lookup.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from schemas.score import SCORE
from stages.contract import Corpus
from stages.rejects import quarantine
from stages.score.config import Config
from stages.score.summary import counted, described
from systems.encoders.kinds import files, kind_of

if TYPE_CHECKING:  # torch takes seconds to import: only `setup` and `process` do
    from stages.score.scoring import Scorer

__all__ = [
    "COLUMNS",
    "INPUTS",
    "OUTPUT",
    "VERSION",
    "Config",
    "Tools",
    "process",
    "resources",
    "setup",
    "summary",
    "wants_gpu",
]

INPUTS = ("download",)
OUTPUT = SCORE
VERSION = 1
COLUMNS = {"download": ("image_id", "image", "captions", "url", "source")}


@dataclass(frozen=True)
class Tools:
    """The loaded model and what the shards say about it."""

    scorer: Scorer
    metadata: Mapping[str, str]


def resources(config: Config) -> tuple[Path, ...]:
    """The files of the model and of its heads. Raises ConfigError or InputError if there is no model."""
    kind_of(config.path, config.architecture)
    return (*files(config.path), *map(Path, config.heads))


def wants_gpu(config: Config) -> bool:
    """Unless the settings say that it computes on the CPU."""
    return config.device != "cpu"


def setup(config: Config, folder: Path) -> Tools:
    """Load the model and the heads. Raises InputError when their files are missing, damaged or do not fit."""
    from stages.score.scoring import load

    scorer, notes = load(config)
    return Tools(scorer, notes)


def process(download: pa.Table, tools: Tools) -> tuple[pa.Table, pa.Table]:
    """The scores of each row, in order. A row whose picture cannot be read, or is none, is rejected."""
    from stages.score.scoring import scored

    columns, rejects = scored(download, tools.scorer)
    return SCORE.table(metadata=tools.metadata, **columns), quarantine("score", rejects)


def summary(corpus: Corpus) -> dict[str, Any]:
    """How the similarities are spread, for choosing a threshold."""
    return described(corpus.grouped("score", ["similarity"], counted, None))

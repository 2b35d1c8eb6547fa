"""Stage `similar`: for each caption the captions of other images that are most like it, without a ceiling, exactly.

What the ceiling of the hard negatives leaves out, for recipes that take such texts as positives
(docs/explanation/negatives.md).
The mining is that of the stage `negatives` with other limits. It runs where `shards.similar` asks for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from pairloom.typed import Range, check_ranges
from schemas.similar import SIMILAR
from stages import negatives
from stages.contract import Corpus

INPUTS = negatives.INPUTS
OUTPUT = SIMILAR
VERSION = 2
COLUMNS = negatives.COLUMNS
SCOPE = negatives.SCOPE


@dataclass(frozen=True, kw_only=True)
class Config:
    """Section `similar` of params.yaml: for each caption the `top_k` most similar with floor < similarity.

    Never a caption of the same image, of one that looks the same, of the same normalised text or of another language.
    """

    scorer: Literal["tfidf", "bm25"] = "tfidf"  # how the similarity of two captions is measured
    # the ceiling of the hard negatives: what is above it may well describe the image too
    floor: Annotated[float, Range(0, below=1)] = 0.5
    top_k: Annotated[int, Range(1, 65535)] = 8  # captions kept for each
    unspaced: Literal["bigrams", "words"] = "bigrams"  # how scripts without spaces (Chinese, Thai, …) are cut

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class Tools:
    """What `negatives` opens, and the most that a caption may have."""

    mining: negatives.Tools
    top_k: int


def _rule(config: Config) -> negatives.Config:
    """The rule of the hard negatives that finds these. Infinity is no number of JSON, so it is no setting."""
    return negatives.Config(
        scorer=config.scorer,
        floor=config.floor,
        ceiling=math.inf,
        top_k=config.top_k,
        unspaced=config.unspaced,
        against="caption",
        distinct=False,
    )


def index(corpus: Corpus, config: Config, folder: Path) -> None:
    """Read all captions once and write, language by language, what `setup` opens.

    Raises InputError if an image is there twice.
    """
    negatives.index(corpus, _rule(config), folder)


def setup(config: Config, folder: Path) -> Tools:
    """Map the indexes that `index` wrote into memory."""
    return Tools(negatives.setup(_rule(config), folder), config.top_k)


def process(curate: pa.Table, tools: Tools) -> pa.Table:
    """For each image and each of its captions the similar ones, most similar first. An empty list if there is none."""
    mined = negatives.process(curate, tools.mining)
    notes = dict(zip(SIMILAR.metadata, (str(tools.top_k),), strict=True))
    return SIMILAR.table(metadata=notes, image_id=mined["image_id"], similar=mined["negatives"])


def summary(corpus: Corpus) -> dict[str, Any]:
    """How many similar captions there are, and how many captions have none."""
    counts = corpus.grouped("similar", ["similar"], _counted, None)
    captions, similar, without = (sum(each) for each in zip((0, 0, 0), *counts, strict=True))
    share = round(without / max(captions, 1), 4)
    return {"captions": captions, "similar": similar, "without": without, "without_share": share}


def _counted(tables: Iterator[pa.Table], argument: None) -> tuple[int, int, int]:
    captions = similar = without = 0
    for table in tables:
        lengths = pc.list_value_length(pc.list_flatten(table["similar"]))
        captions, similar = captions + len(lengths), similar + int(pc.sum(lengths).as_py() or 0)
        without += int(pc.sum(pc.equal(lengths, 0)).as_py() or 0)
    return captions, similar, without

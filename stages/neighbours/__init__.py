"""Stage `neighbours`: for each image the images that are most like it, with the features of their best regions.

For recipes that show retrieved images (UNIMO, arXiv:2012.15409, section 3.2). The loader has one row group in memory,
and such images lie elsewhere, so their features travel with the row.

Letters: N images, E width of a vector, R regions of all of them, D width of a feature.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairloom.table import Array
from pairloom.typed import Range, Share, check_ranges
from schemas.neighbours import NEIGHBOUR, NEIGHBOURS
from stages import rows_done
from stages.contract import Corpus, Scope
from stages.negatives.nearest import Facts, Lists, Queries, Rule, Vectors, search
from stages.negatives.table import fixed, listed
from stages.neighbours import store

INPUTS = ("regions",)
ASKS = ("score",)
OUTPUT = NEIGHBOURS
VERSION = 1
COLUMNS = {"regions": ("image_id",), "score": ("image_id",)}  # the index has what is looked for
SCOPE: Scope = "all"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Section `neighbours` of params.yaml: for each image the `top_k` most similar others with floor < similarity."""

    # objects: the cosine of the classes that the detector saw, where a class of few images weighs more. embedding: the
    # cosine of the vectors of the pictures that stage `score` stored
    by: Literal["objects", "embedding"] = "objects"
    min_score: Share = 0.2  # objects: detector confidence that a class must be above
    floor: Annotated[float, Range(0, below=1)] = 0.0  # similarity must be above it
    # images kept for each. The paper has 100 with up to 100 regions each: of 2048 numbers, 41 MB an image
    top_k: Annotated[int, Range(1, 1000)] = 4
    max_regions: Annotated[int, Range(1, 1000)] = 10  # of each of them, the first ones

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class Tools:
    """The opened index, mapped into memory."""

    config: Config
    seen: store.Seen
    vectors: Vectors


def inputs(config: Config) -> tuple[str, ...]:
    """With `score` where its vectors are compared."""
    return (*INPUTS, *(ASKS if config.by == "embedding" else ()))


def index(corpus: Corpus, config: Config, folder: Path) -> None:
    """Write the vectors of all images, and the features and boxes of their first regions.

    Raises InputError if an image is there twice, or stage `score` stored no vectors that are asked for.
    """
    store.write_seen(corpus, config.max_regions, folder)
    if config.by == "objects":
        store.write_objects(corpus, config.min_score, folder)
    else:
        store.write_embeddings(corpus, folder)


def setup(config: Config, folder: Path) -> Tools:
    """Map the index that `index` wrote into memory."""
    return Tools(config, store.open_seen(folder), store.open_vectors(folder))


def process(regions: pa.Table, *others_and_tools: Any) -> pa.Table:
    """For each image the others that are most like it, most similar first, with their first regions.

    others_and_tools: the further tables of `inputs`, and the Tools.
    """
    tools: Tools = others_and_tools[-1]
    rows_done.expect(regions.num_rows)
    seen = tools.seen
    found = _nearest(seen.places_of(fixed(regions["image_id"])), tools)
    kept = np.arange(tools.config.top_k) < found.counts[:, None]
    places, ends = found.places[kept], np.cumsum(found.counts)
    sizes = seen.sizes(places)
    of_images = [seen.image_ids.take(pa.array(places)), pa.array(found.similarities[kept]), pa.array(sizes, pa.int32())]
    boxes, features = seen.of([places[end - count : end] for count, end in zip(found.counts, ends, strict=True)])
    notes = dict(zip(NEIGHBOURS.metadata, (str(tools.config.top_k), str(seen.width)), strict=True))
    return NEIGHBOURS.table(
        metadata=notes,
        image_id=regions["image_id"],
        neighbours=listed(found.counts, pa.StructArray.from_arrays(of_images, fields=list(NEIGHBOUR))),
        neighbour_regions=pa.array([len(own) for own in boxes], pa.int32()),
        neighbour_boxes=boxes,
        neighbour_features=features,
    )


def _nearest(places: Array, tools: Tools) -> Lists:
    """The images most like those at these places, none its own."""
    count, own = len(places), Vectors(*(array[places] for array in tools.vectors))
    numbers = np.arange(len(tools.vectors.scales), dtype=np.int32)
    facts = Facts(numbers, numbers, np.ones(len(numbers), np.bool_))
    groups, nobody = np.arange(count + 1), np.full(count, -1)
    queries = Queries(own, places, nobody, groups, np.zeros(count, np.bool_), np.full(count, -1, np.float32))
    rule = Rule(np.float32(tools.config.floor), np.float32(math.inf), tools.config.top_k, False)
    return search(tools.vectors, facts, queries, rule)


def summary(corpus: Corpus) -> dict[str, Any]:
    """How many images have neighbours, and how many."""
    counts = corpus.grouped("neighbours", ["neighbours"], _counted, None)
    images, neighbours, without = (sum(each) for each in zip((0, 0, 0), *counts, strict=True))
    share = round(without / max(images, 1), 4)
    return {"images": images, "neighbours": neighbours, "without": without, "without_share": share}


def _counted(tables: Iterator[pa.Table], argument: None) -> tuple[int, int, int]:
    images = neighbours = without = 0
    for table in tables:
        lengths = pc.list_value_length(table["neighbours"])
        images, neighbours = images + len(lengths), neighbours + int(pc.sum(lengths).as_py() or 0)
        without += int(pc.sum(pc.equal(lengths, 0)).as_py() or 0)
    return images, neighbours, without

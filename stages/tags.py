"""Stage `tags`: words for the things seen in each image, from the classes and attributes of its regions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.errors import ConfigError, SchemaError
from schemas.regions import REGIONS
from schemas.table import Blob, metadata
from schemas.tags import TAG, TAGS

Ints = npt.NDArray[np.int64]

INPUTS = ("regions",)
OUTPUT = TAGS
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Config:
    """Section `tags` of params.yaml."""

    min_score: float = 0.2  # a region below this detector confidence of its class gives no tag; 0 to 1
    with_attributes: bool = True  # "red ball" instead of "ball" where the attribute is confident enough
    min_attribute_score: float = 0.3  # 0 to 1
    dedupe: bool = True  # a text that several regions give is kept once, for the best of them
    max_tags: int = 50  # the best ones of an image

    def __post_init__(self) -> None:
        for name in ("min_score", "min_attribute_score"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"tags.{name} is {getattr(self, name)}", "params.yaml", "set it from 0 to 1")
        if self.max_tags < 1:
            raise ConfigError(f"tags.max_tags is {self.max_tags}", "params.yaml", "set 1 or more")


def setup(config: Config, folder: Path) -> Config:
    """The vocabularies come with each regions shard, so that the settings are all there is to load."""
    return config


def process(regions: pa.Table, tools: Config) -> pa.Table:
    """The tags of each image, best first; an image whose regions are all below `min_score` has none.

    Best first means by class score, equal scores by region. Classes and attributes with an empty name give no word.
    """
    words = Words.of(regions)
    seen = Seen.of(regions, tools, words)
    kept = seen.best(tools)
    tags = pa.StructArray.from_arrays(
        [
            words.texts(seen.text_ids[kept]),
            pa.array(seen.region[kept].astype(np.uint8)),
            pa.array(seen.class_ids[kept].astype(np.uint16)),
            pa.array(seen.attribute_ids[kept].astype(np.uint16), mask=seen.attribute_ids[kept] < 0),
            pa.array(seen.scores[kept]),
        ],
        fields=list(TAG),
    )
    offsets = np.searchsorted(seen.image[kept], np.arange(regions.num_rows + 1))
    return TAGS.table(image_id=regions["image_id"], tags=pa.ListArray.from_arrays(offsets.astype(np.int32), tags))


@dataclass(frozen=True)
class Words:
    """The detector's vocabularies, from the metadata of the regions table."""

    classes: list[str]
    attributes: list[str]

    @classmethod
    def of(cls, regions: pa.Table) -> Words:
        facts = metadata(regions)
        if regions.num_rows and ("classes" not in facts or "attributes" not in facts):
            raise SchemaError(
                "the regions table does not name its classes and attributes",
                where=f"its metadata has only {sorted(facts)}",
                fix="re-run the stage regions",
            )
        return cls(json.loads(facts.get("classes", "[]")), json.loads(facts.get("attributes", "[]")))

    def text_ids(self, class_ids: Ints, attribute_ids: Ints) -> Ints:
        """One number a pair of words; -1 as attribute stands for none."""
        return (attribute_ids + 1) * len(self.classes) + class_ids

    def texts(self, text_ids: Ints) -> pa.Array:
        distinct, position = np.unique(text_ids, return_inverse=True)
        names = [self._name(int(text_id)) for text_id in distinct]
        return pa.array(names, pa.string()).take(pa.array(position))

    def _name(self, text_id: int) -> str:
        attribute, name = divmod(text_id, max(len(self.classes), 1))
        return f"{self.attributes[attribute - 1]} {self.classes[name]}" if attribute else self.classes[name]

    def same_text(self, text_ids: Ints) -> Ints:
        """The numbers with equal texts made equal: two classes of a vocabulary may have one name."""
        distinct, position = np.unique(text_ids, return_inverse=True)
        first: dict[str, int] = {}
        merged = [first.setdefault(self._name(int(text_id)), int(text_id)) for text_id in distinct]
        return np.array(merged, dtype=np.int64)[position]


@dataclass(frozen=True)
class Seen:
    """One entry a region that gives a tag, best first within its image; all arrays in parallel."""

    image: Ints  # row of the regions table
    region: Ints
    class_ids: Ints
    attribute_ids: Ints  # -1 if the tag is the class word alone
    scores: npt.NDArray[np.float32]
    text_ids: Ints

    @classmethod
    def of(cls, regions: pa.Table, config: Config, words: Words) -> Seen:
        counts = regions["num_regions"].to_numpy().astype(np.int64)
        image = np.repeat(np.arange(regions.num_rows), counts)
        region = np.arange(len(image)) - np.repeat(np.cumsum(counts) - counts, counts)
        class_ids = _known(_flat(regions, "class_ids", len(image)), words.classes, "class")
        attribute_ids = _attributes(regions, config, words, len(image))
        scores = _flat(regions, "class_scores", len(image)).astype(np.float32)
        named = np.array([bool(name) for name in words.classes], dtype=bool)
        good = np.flatnonzero((scores >= config.min_score) & (named[class_ids] if len(class_ids) else True))
        order = good[np.lexsort((region[good], -scores[good], image[good]))]
        text_ids = words.same_text(words.text_ids(class_ids[order], attribute_ids[order]))
        return cls(image[order], region[order], class_ids[order], attribute_ids[order], scores[order], text_ids)

    def best(self, config: Config) -> Ints:
        """Positions of the entries that become tags, in order."""
        kept = np.arange(len(self.image))
        if config.dedupe and len(kept):
            width = int(self.text_ids.max()) + 1
            _, first = np.unique(self.image * width + self.text_ids, return_index=True)
            kept = np.sort(first)
        image = self.image[kept]
        rank = np.arange(len(kept)) - np.searchsorted(image, image)
        return kept[rank < config.max_tags]


def _flat(regions: pa.Table, column: str, total: int) -> npt.NDArray[np.generic]:
    """All images' numbers of one blob column, one after the other. Raises ValueError if a blob has another length."""
    kind = REGIONS.column(column).type
    assert isinstance(kind, Blob)
    rows = kind.unpack(regions[column])
    if [len(row) for row in rows] != regions["num_regions"].to_pylist():
        raise ValueError(f"{column} does not have one number a region")
    return np.concatenate(rows) if rows else np.empty(total, kind.dtype)


def _known(ids: npt.NDArray[np.generic], names: list[str], what: str) -> Ints:
    if len(ids) and int(ids.max()) >= len(names):
        raise ValueError(f"{what} {int(ids.max())} is not in the vocabulary of {len(names)}")
    return ids.astype(np.int64)


def _attributes(regions: pa.Table, config: Config, words: Words, total: int) -> Ints:
    """The attribute of each region, -1 where it is too unsure, has no name, or is not wanted."""
    if not config.with_attributes or not words.attributes:
        return np.full(total, -1)
    ids = _known(_flat(regions, "attribute_ids", total), words.attributes, "attribute")
    named = np.array([bool(name) for name in words.attributes])
    sure = _flat(regions, "attribute_scores", total).astype(np.float32) >= config.min_attribute_score
    return np.where(sure & named[ids], ids, -1)

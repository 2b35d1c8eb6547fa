"""Stage `tags`: words for the things seen in each image, from the classes and attributes of its regions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from pairloom.errors import ConfigError, SchemaError
from pairloom.table import Blob, metadata
from pairloom.typed import Positive, Share, check_ranges
from schemas.regions import REGIONS
from schemas.tags import TAG, TAGS
from stages.contract import A_PATH

Ints = npt.NDArray[np.int64]

INPUTS = ("regions",)
OUTPUT = TAGS
VERSION = 2


@dataclass(frozen=True)
class TagRules:
    """How a system makes its tags. Each number is Config's where that is not null."""

    min_score: float
    with_attributes: bool
    min_attribute_score: float
    dedupe: bool
    max_tags: int


Name = Literal["attribute+class", "oscar", "vinvl", "unimo"]
RECIPES: dict[Name, TagRules] = {
    "attribute+class": TagRules(0.2, True, 0.3, True, 50),
    # Oscar's loader joins the class names in the file's order, which is by score: all of them, doubles too.
    "oscar": TagRules(0.0, False, 0.0, False, 100),
    "vinvl": TagRules(0.2, False, 0.0, False, 100),  # as Oscar, on what VinVL's detector keeps
    "unimo": TagRules(0.35, False, 0.0, False, 100),  # its tag files are named after 0.35, at most 100
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Section `tags` of params.yaml. What is null is the recipe's own."""

    recipe: Name = "attribute+class"  # whose tags are made: pairloom's own, or as a published system makes them
    min_score: Share | None = None  # a region below this detector confidence of its class gives no tag
    with_attributes: bool | None = None  # "red ball" instead of "ball" where the attribute is confident enough
    min_attribute_score: Share | None = None  # an attribute below this detector confidence is left out
    dedupe: bool | None = None  # a text that several regions give is kept once, for the best of them, and counted
    max_tags: Positive | None = None  # the best ones of an image
    # YAML or JSON: {classes: {name: word}, attributes: {…}}. An empty word gives no tag
    mapping: str | None = field(default=None, metadata=A_PATH)

    def __post_init__(self) -> None:
        check_ranges(self)

    def rules(self) -> TagRules:
        """The recipe with what is set here."""
        own = {item.name: getattr(self, item.name) for item in fields(TagRules)}
        return replace(RECIPES[self.recipe], **{name: value for name, value in own.items() if value is not None})


@dataclass(frozen=True)
class Tools:
    """The rules, and other words for the detector's names."""

    rules: TagRules
    classes: Mapping[str, str]
    attributes: Mapping[str, str]


def resources(config: Config) -> tuple[Path, ...]:
    """The mapping file, if there is one."""
    return (Path(config.mapping),) if config.mapping else ()


def setup(config: Config, folder: Path) -> Tools:
    """Read the mapping. The vocabularies come with each regions shard. Raises ConfigError if it is not as in Config."""
    if config.mapping is None:
        return Tools(config.rules(), {}, {})
    try:
        content = yaml.safe_load(Path(config.mapping).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"tags.mapping cannot be read: {error}", config.mapping, "see stages/tags.py") from error
    parts = content if isinstance(content, dict) else {"": content}
    words = [parts.get(name) or {} for name in ("classes", "attributes")]
    texts = all(isinstance(part, dict) and all(isinstance(x, str) for x in (*part, *part.values())) for part in words)
    if set(parts) - {"classes", "attributes"} or not texts:
        raise ConfigError(
            "tags.mapping does not map names to words", config.mapping, "write {classes: {name: word}, attributes: {…}}"
        )
    return Tools(config.rules(), *words)


def process(regions: pa.Table, tools: Tools) -> pa.Table:
    """The tags of each image, best first. An image whose regions are all below `min_score` has none.

    Best first means by class score, equal scores by region. Of a name with synonyms, "stop sign,stopsign", the first
    is the word. Classes and attributes with an empty word give none.
    """
    words = Words.of(regions, tools)
    seen = Seen.of(regions, tools.rules, words)
    kept, counts = seen.best(tools.rules)
    texts = words.texts(seen.text_ids[kept])
    tags = pa.StructArray.from_arrays(
        [
            texts,
            pa.array(seen.region[kept].astype(np.uint8)),
            pa.array(seen.class_ids[kept].astype(np.uint16)),
            pa.array(seen.attribute_ids[kept].astype(np.uint16), mask=seen.attribute_ids[kept] < 0),
            pa.array(seen.scores[kept]),
            pa.array(counts.astype(np.uint8)),
            pa.array(starts(texts, seen.image[kept])),
        ],
        fields=list(TAG),
    )
    offsets = np.searchsorted(seen.image[kept], np.arange(regions.num_rows + 1))
    return TAGS.table(image_id=regions["image_id"], tags=pa.ListArray.from_arrays(offsets.astype(np.int32), tags))


def starts(texts: pa.Array, image: Ints) -> npt.NDArray[np.int32]:
    """Where each text begins when those of an image are joined by spaces, in characters."""
    lengths = pc.utf8_length(texts).to_numpy(zero_copy_only=False).astype(np.int64) + 1
    ends = np.cumsum(lengths)
    begins = ends - lengths
    inside: npt.NDArray[np.int32] = (begins - begins[np.searchsorted(image, image)]).astype(np.int32)
    return inside


@dataclass(frozen=True)
class Words:
    """The words for the detector's classes and attributes, from the metadata of the regions table."""

    classes: list[str]
    attributes: list[str]

    @classmethod
    def of(cls, regions: pa.Table, tools: Tools) -> Words:
        facts = metadata(regions)
        if regions.num_rows and ("classes" not in facts or "attributes" not in facts):
            raise SchemaError(
                "the regions table does not name its classes and attributes",
                where=f"its metadata has only {sorted(facts)}",
                fix="re-run the stage regions",
            )
        classes, attributes = (json.loads(facts.get(name, "[]")) for name in ("classes", "attributes"))
        return cls([word(n, tools.classes) for n in classes], [word(n, tools.attributes) for n in attributes])

    def text_ids(self, class_ids: Ints, attribute_ids: Ints) -> Ints:
        """One number a pair of words. -1 as attribute stands for none."""
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


def word(name: str, mapping: Mapping[str, str]) -> str:
    """What a name is called in a tag."""
    return mapping.get(name, name.partition(",")[0]).strip()


@dataclass(frozen=True)
class Seen:
    """One entry a region that gives a tag, best first within its image. All arrays in parallel."""

    image: Ints  # row of the regions table
    region: Ints
    class_ids: Ints
    attribute_ids: Ints  # -1 if the tag is the class word alone
    scores: npt.NDArray[np.float32]
    text_ids: Ints

    @classmethod
    def of(cls, regions: pa.Table, config: TagRules, words: Words) -> Seen:
        counts = regions["num_regions"].to_numpy().astype(np.int64)
        if not words.classes:  # the features came without classes
            counts = np.zeros_like(counts)
            regions = regions.slice(0, 0)
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

    def best(self, config: TagRules) -> tuple[Ints, Ints]:
        """Positions of the entries that become tags, in order, and how many entries each stands for."""
        kept = np.arange(len(self.image))
        counts = np.ones_like(kept)
        if config.dedupe and len(kept):
            width = int(self.text_ids.max()) + 1
            _, first, numbers = np.unique(self.image * width + self.text_ids, return_index=True, return_counts=True)
            order = np.argsort(first)
            kept, counts = first[order], numbers[order]
        image = self.image[kept]
        rank = np.arange(len(kept)) - np.searchsorted(image, image)
        return kept[rank < config.max_tags], counts[rank < config.max_tags]


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


def _attributes(regions: pa.Table, config: TagRules, words: Words, total: int) -> Ints:
    """The attribute of each region, -1 where it is too unsure, has no name, or is not wanted."""
    if not config.with_attributes or not words.attributes:
        return np.full(total, -1)
    ids = _known(_flat(regions, "attribute_ids", total), words.attributes, "attribute")
    named = np.array([bool(name) for name in words.attributes])
    sure = _flat(regions, "attribute_scores", total).astype(np.float32) >= config.min_attribute_score
    return np.where(sure & named[ids], ids, -1)

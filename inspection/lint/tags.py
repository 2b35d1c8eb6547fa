"""Lint, part 3: tags: in order, one after the other, of the class and attribute of a region that is there."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from inspection.columns import Array, Numbers, flat_blob, flat_list, struct_field
from inspection.lint.shard import Shard, counts

NONE = -1  # the attribute of a tag without one


def check_tags(shard: Shard) -> None:
    tags, rows = flat_list(shard.table["tags"])
    scores = struct_field(tags, "score")
    shard.in_range("tags.score", scores, rows, 0, 1)
    shard.descending("tags.score", scores, rows, rows)
    shard.texts("tags", tags, rows)
    shard.in_range("tags.count", struct_field(tags, "count"), rows, 1, 255)
    lengths = pc.utf8_length(pc.struct_field(tags, "text")).to_numpy(zero_copy_only=False).astype(np.int64) + 1
    begins = np.cumsum(lengths) - lengths
    wanted = begins - begins[np.searchsorted(rows, rows)] if len(rows) else begins
    found = struct_field(tags, "start")
    bad = np.flatnonzero(found != wanted)
    shard.bad("start", rows[bad], lambda i: f"a tag starts at {found[bad[i]]}, by the texts before it {wanted[bad[i]]}")


def check_tag_regions(shard: Shard) -> None:
    """Every tag's region is there and has the tag's class and attribute; needs the columns of regions beside the tags.

    A tag's text is that of its class and attribute, unless other words were given for these (tags.mapping).
    """
    tags, rows = flat_list(shard.table["tags"])
    regions = struct_field(tags, "region").astype(np.int64)
    numbers = counts(shard.table)
    bad = np.flatnonzero(regions >= numbers[rows])
    shard.bad(
        "reference", rows[bad], lambda i: f"a tag is of region {regions[bad[i]]}, the image has {numbers[rows[bad[i]]]}"
    )
    there = np.flatnonzero(regions < numbers[rows])
    starts = np.concatenate([[0], np.cumsum(numbers)])
    places = starts[rows[there]] + regions[there]
    texts = pc.struct_field(tags, "text")
    for column, word, said in (
        ("class_ids", "class", struct_field(tags, "class_id").astype(np.int64)),
        ("attribute_ids", "attribute", struct_field(tags, "attribute_id").astype(np.int64)),
    ):
        seen = flat_blob(shard.table[column], "<u2")[places].astype(np.int64)
        wrong = np.flatnonzero((seen != said[there]) & (said[there] != NONE))
        whats = [
            f"tag {texts[there[i]].as_py()!r} has {word} {said[there[i]]}, its region {seen[i]}" for i in wrong.tolist()
        ]
        shard.findings.named("reference", shard.file, list(zip(rows[there[wrong]].tolist(), whats, strict=True)))
    _check_words(shard, tags, rows)


def _check_words(shard: Shard, tags: pa.Array, rows: Numbers) -> None:
    try:
        classes, attributes = (json.loads(shard.metadata[name]) for name in ("classes", "attributes"))
    except (KeyError, json.JSONDecodeError):
        return  # reported with the regions
    of, with_ = (struct_field(tags, name).astype(np.int64) for name in ("class_id", "attribute_id"))
    known = np.flatnonzero((of < len(classes)) & (with_ < len(attributes)))
    pairs, place = np.unique(with_[known] * (len(classes) + 1) + of[known], return_inverse=True)
    words = [_words(int(pair), classes, attributes) for pair in pairs]
    texts = pc.struct_field(tags, "text").take(pa.array(known))
    wanted = pa.array(words, pa.string()).take(pa.array(place))
    other = pc.not_equal(texts, wanted).to_numpy(zero_copy_only=False)
    bad = np.flatnonzero(other & _of_two_texts(shard, texts, place))
    shard.bad(
        "text",
        rows[known[bad]],
        lambda i: f"a tag is {texts[bad[i]].as_py()!r}, its class and attribute are called {wanted[bad[i]].as_py()!r}",
    )


def _words(pair: int, classes: list[str], attributes: list[str]) -> str:
    """Of names with synonyms, "stop sign,stopsign", the first."""
    attribute, of = divmod(pair, len(classes) + 1)
    names = [*([] if attribute == NONE else [attributes[attribute]]), classes[of]]
    return " ".join(name.partition(",")[0].strip() for name in names)


def _of_two_texts(shard: Shard, texts: pa.Array, pairs: Array) -> Array:
    """Whether a tag's class and attribute have several texts here. All may be wrong where no other words were given."""
    if shard.made_by.get("table") == "tags" and not shard.made_by.get("config", {}).get("mapping"):
        return np.ones(len(pairs), bool)
    codes = texts.dictionary_encode().indices.to_numpy(zero_copy_only=False).astype(np.int64)
    both = np.unique(np.stack([pairs, codes], axis=1), axis=0)[:, 0]
    several: Array = np.isin(pairs, both[1:][both[1:] == both[:-1]])
    return several

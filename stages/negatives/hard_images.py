"""Hard images: for each image those whose sets of tags are closest to its own without being equal.

For systems that replace the image of a pair rather than its text (trainer: itm, replace: image). The machinery is that
of the captions: a set of tags is a text, a whole tag is a term, and rare tags weigh more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.negatives.captions import one_chunk, table_of
from stages.negatives.inverted import build
from stages.negatives.mining import mine_captions
from stages.negatives.rule import Config
from stages.negatives.table import listed
from stages.negatives.tokens import Tokens
from stages.negatives.words import normalise

BETWEEN = "\x00"  # between the tags of a set, no tag has it
# No ceiling: equal sets are left out by themselves, and each image counts, also where its tags are those of others.
OF_SETS: dict[str, Any] = {"ceiling": 2.0, "against": "caption", "distinct": False}
CLOSEST = Config(**OF_SETS)


def hard_images(tags: pa.Table, config: Config = CLOSEST, threads: int = 1) -> pa.Table:
    """One row an image, in their order, of a table with the columns image_id and tags (schemas/tags.py).

    Columns image_id, images (list of image_id and similarity, closest first, ties by image_id) and short. Equal sets
    are never each other's. An image without tags has none. How often a tag comes in an image does not matter.
    """
    ids = one_chunk(tags["image_id"])
    sets = [BETWEEN.join(sorted({normalise(tag["text"]) for tag in row})) for row in tags["tags"].to_pylist()]
    texts = table_of(ids, np.zeros(len(ids)), sets, [None] * len(ids))
    index = build(texts, config, part=len(ids), cut=_whole_tags)
    found = mine_captions(index, 0, np.arange(len(ids)), config, threads)
    named = index.parts[0].captions.table["image_id"].take(pa.array(found.places))
    fields = [pa.field("image_id", ids.type, nullable=False), pa.field("similarity", pa.float32(), nullable=False)]
    images = pa.StructArray.from_arrays([one_chunk(named), pa.array(found.similarities)], fields=fields)
    rank = pc.rank(ids, tiebreaker="first").to_numpy().astype(np.int64) - 1  # the index has them in the order of ids
    short = pa.array((config.top_k - found.counts).astype(np.uint16))
    return pa.table(
        {
            "image_id": ids,
            "images": listed(found.counts, images).take(pa.array(rank)),
            "short": short.take(pa.array(rank)),
        }
    )


def _whole_tags(texts: pa.Array, config: Config) -> Tokens:
    """The tags of each set."""
    sets = pc.split_pattern(texts, BETWEEN)
    encoded = pc.list_flatten(sets).dictionary_encode()
    empty = pc.equal(texts, "").to_numpy(zero_copy_only=False)  # splits into one tag without a name
    counts = np.where(empty, 0, pc.list_value_length(sets).to_numpy())
    terms = encoded.indices.to_numpy().astype(np.int32)
    named = pc.not_equal(encoded.dictionary, "").to_numpy(zero_copy_only=False)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Tokens(starts, terms[named[terms]] if len(terms) else terms, encoded.dictionary)

"""Which words made a hard negative similar: the products of the two captions' vectors, word by word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.negatives.inverted import Index
from stages.negatives.standalone import Mined


@dataclass(frozen=True)
class Explained:
    """One negative of a caption. words: those of both, with what each adds to the similarity, most first."""

    caption_index: int  # of the image
    nearest: int  # the image's caption that the similarity is to; with `against: caption` the same
    negative: str
    similarity: float
    words: tuple[tuple[str, float], ...]


def explain(mined: Mined, image: str, lists: dict[int, Sequence[Any]]) -> Iterator[Explained]:
    """The negatives of an image's captions, explained.

    image: its id as text. lists: row of the captions -> its negatives, with image_id, caption_index and text.
    """
    place = {}
    for row, (one, index) in enumerate(zip(*(mined.captions[name].to_pylist() for name in NAMED), strict=True)):
        place[str(one), index] = row
    own = [row for (one, _), row in place.items() if one == image]
    for row in own:
        asked = [row]
        if mined.config.against == "image":
            asked = [other for other in own if mined.of[other] == mined.of[row]]
        for negative in lists.get(row, ()):
            other = place[str(negative["image_id"]), negative["caption_index"]]
            yield _explained(mined, row, asked, other, negative["text"])


NAMED = ("image_id", "caption_index")


def _explained(mined: Mined, row: int, asked: Sequence[int], other: int, text: str) -> Explained:
    index = mined.indexes[mined.of[row]]
    products = [_products(index, int(mined.numbers[one]), int(mined.numbers[other])) for one in asked]
    best = max(range(len(asked)), key=lambda at: sum(products[at].values()))
    words = tuple(sorted(products[best].items(), key=lambda pair: (-pair[1], pair[0])))
    indexes = mined.captions["caption_index"]
    similarity = sum(products[best].values())
    return Explained(indexes[row].as_py(), indexes[asked[best]].as_py(), text, similarity, words)


def _products(index: Index, query: int, number: int) -> dict[str, float]:
    """Term -> query weight × document weight, of the terms of both captions; an index of one part."""
    (part,) = index.parts
    spans = []
    for caption in (query, number):
        document = part.captions.documents[caption]
        spans.append(slice(part.postings.starts[document], part.postings.starts[document + 1]))
    asked, found = (part.postings.terms[span] for span in spans)
    shared, here, there = np.intersect1d(asked, found, return_indices=True)
    weights = part.query_weights[spans[0]][here] * part.postings.weights[spans[1]][there]
    names = index.statistics.names
    return {names[int(term)].as_py(): float(weight) for term, weight in zip(shared, weights, strict=True)}

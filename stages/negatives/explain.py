"""Which words made a hard negative similar: the products of the two captions' vectors, word by word.

With `scorer: embedding` no word did, and with vectors of pictures it is said how similar the picture is, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pairloom.table import Array
from stages.negatives.inverted import Index
from stages.negatives.nearest import of_length_one
from stages.negatives.standalone import Mined


@dataclass(frozen=True)
class Explained:
    """One negative of a caption. words: those of both, with what each adds to the similarity, most first."""

    caption_index: int  # of the image
    nearest: int  # the image's caption that the similarity is to; with `against: caption` the same
    negative: str
    similarity: float
    words: tuple[tuple[str, float], ...]
    picture: float | None = None  # the cosine of the negative to the picture, where `veto: score` knows it


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
    indexes = mined.captions["caption_index"]
    picture = None if mined.told.pictures is None else _cosine(mined.told.pictures[row], _vector(mined, other))
    if mined.config.scorer == "embedding":
        cosines = [_cosine(_vector(mined, one), _vector(mined, other)) for one in asked]
        best = int(np.argmax(cosines))
        return Explained(indexes[row].as_py(), indexes[asked[best]].as_py(), text, cosines[best], (), picture)
    products = [_products(index, int(mined.numbers[one]), int(mined.numbers[other])) for one in asked]
    best = max(range(len(asked)), key=lambda at: sum(products[at].values()))
    words = tuple(sorted(products[best].items(), key=lambda pair: (-pair[1], pair[0])))
    similarity = sum(products[best].values())
    return Explained(indexes[row].as_py(), indexes[asked[best]].as_py(), text, similarity, words, picture)


def _vector(mined: Mined, row: int) -> Array:
    (part,) = mined.indexes[mined.of[row]].parts
    assert part.vectors is not None
    vector: Array = part.vectors.halves[mined.numbers[row]]
    return vector


def _cosine(one: Array, other: Array) -> float:
    """Of two vectors by their float16 bits. 0 if one is of zeros."""
    both = of_length_one(np.stack([one, other]))
    return float(both[0] @ both[1])


def _products(index: Index, query: int, number: int) -> dict[str, float]:
    """Term -> query weight × document weight, of the terms of both captions. An index of one part."""
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

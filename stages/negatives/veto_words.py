"""The veto by words: of a caption of which all that it says is told of the image, by its captions or otherwise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pairloom.compiled import compiled
from pairloom.table import Array
from stages.negatives.groups import ranges
from stages.negatives.inverted import Index
from stages.negatives.mining import Neighbours
from stages.negatives.rule import Config
from stages.negatives.veto import Veto


def _by_image(pairs: Sequence[tuple[Array, Array]], images: int, vocabulary: int) -> tuple[Array, Array]:
    """(starts, terms): of each image the terms it has in any of these (image, term) pairs, ascending and once."""
    image, term = (np.concatenate([np.empty(0, np.int64), *parts]) for parts in zip(*pairs, strict=True))
    own, known = np.divmod(np.unique(image * max(vocabulary, 1) + term), max(vocabulary, 1))
    return np.searchsorted(own, np.arange(images + 1)), known.astype(np.int32)


def by_captions(index: Index, part: int, captions: Array, config: Config) -> Veto:
    """`veto: captions`: of captions whose words, but for common ones, are all among those of the image's captions."""
    common = index.statistics.captions > config.veto_common * index.statistics.total
    return told_by(index, part, captions, common, [])


def told_by(index: Index, part: int, captions: Array, silent: Array, more: Sequence[tuple[Array, Array]]) -> Veto:
    """The veto of captions whose terms, but for silent ones, are all told of the image, by its captions or otherwise.

    captions: numbers in this part. silent: bool of each term of the vocabulary. more: (place in captions, term) of what
    else is told of a caption's image. An image's captions are those of its language.
    """
    source, statistics = index.parts[part].captions, index.statistics
    owners, image_of = np.unique(source.owners[captions], return_inverse=True)
    pairs = [_own_terms(index, part, owners), *((image_of[row], term) for row, term in more)]
    told = _by_image(pairs, len(owners), len(statistics.captions))

    def veto(rows: Array, found: Neighbours) -> Array:
        images = np.repeat(image_of[rows], found.counts)
        stays = np.ones(len(images), np.bool_)
        for into, here, numbers in index.split(found.places):
            documents, postings = into.captions.documents[numbers], into.postings
            stays[here] = _says_more(images[here], documents, postings.starts, postings.terms, *told, silent)
        return stays

    return veto


def _own_terms(index: Index, part: int, owners: Array) -> tuple[Array, Array]:
    """(place in owners, term) of the terms of these images' captions in this part."""
    captions, postings = index.parts[part].captions, index.parts[part].postings
    low, high = (np.searchsorted(captions.owners, owners, side) for side in ("left", "right"))
    members = ranges(low, high)
    documents = captions.documents[members]
    first, last = postings.starts[documents], postings.starts[documents + 1]
    image = np.repeat(np.repeat(np.arange(len(owners)), high - low), last - first)
    return image, postings.terms[ranges(first, last)].astype(np.int64)


@compiled
def _says_more(
    images: Array, documents: Array, starts: Array, terms: Array, told_starts: Array, told: Array, silent: Array
) -> Array:
    """Of each pair whether the document has a term that is neither silent nor told of the image, bool."""
    found = np.zeros(len(images), np.bool_)
    for pair in range(len(images)):
        first, end = told_starts[images[pair]], told_starts[images[pair] + 1]
        for at in range(starts[documents[pair]], starts[documents[pair] + 1]):
            term = terms[at]
            if silent[term]:
                continue
            low, high = first, end
            while low < high:
                middle = (low + high) // 2
                if told[middle] < term:
                    low = middle + 1
                else:
                    high = middle
            if low == end or told[low] != term:
                found[pair] = True
                break
    return found

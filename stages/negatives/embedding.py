"""Hard negatives by the vectors of their texts (`scorer: embedding`), under the rule of stages/negatives/rule.py.

The captions are those of the index of words, part by part, with the vectors that stored.py placed beside them. A
caption of a picture that stage `score` left out has a vector of zeros: its list is empty, and it is in no other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from pairloom.table import Array
from stages.negatives import nearest, nearest_on_gpu
from stages.negatives.captions import Captions
from stages.negatives.groups import ranges
from stages.negatives.inverted import Index, Part
from stages.negatives.matching import same_image, same_text
from stages.negatives.mining import Neighbours, last_of, merged
from stages.negatives.nearest import Facts, Lists, Queries, Rule, Vectors
from stages.negatives.rule import Config


def mine_vectors(index: Index, part: int, captions: Array, config: Config, most: int) -> Neighbours:
    """As mining.mine_captions, by the cosines of vectors that the parts of the index have."""
    source = index.parts[part]
    row, members, starts = _asked(source.captions, captions, config)
    kinds = source.captions.trained[members[starts[:-1]]] & config.train_only
    rule = Rule(np.float32(config.floor), np.float32(config.ceiling), most, config.distinct)
    found = Neighbours.nothing(len(starts) - 1)
    search = _searcher(config)
    for number, target in enumerate(index.parts):
        assert target.vectors is not None
        queries = _queries(source, members, target, starts, kinds, last_of(found, most))
        own = target.captions
        facts = Facts(own.images, own.documents, own.trained)
        lists = search(target.vectors, facts, queries, rule, len(index.parts))
        kept = np.arange(most) < lists.counts[:, None]
        here = Neighbours(lists.counts, lists.places[kept] + index.bases[number], lists.similarities[kept])
        found = merged(found, here, index, most, config.distinct)
    return _of_groups(found, row)


def _searcher(config: Config) -> Callable[..., Lists]:
    device = nearest_on_gpu.device_of(config.device)
    return nearest.search if device == "cpu" else partial(nearest_on_gpu.search, device)


def _asked(captions: Captions, asked: Array, config: Config) -> tuple[Array, Array, Array]:
    """(group of each caption asked for, the captions to look for, where each group's begin and the last ends)."""
    if config.against == "caption":
        return np.arange(len(asked)), asked, np.arange(len(asked) + 1)
    owners, row = np.unique(captions.owners[asked], return_inverse=True)
    low, high = (np.searchsorted(captions.owners, owners, side) for side in ("left", "right"))
    return row, ranges(low, high), np.concatenate([[0], np.cumsum(high - low)])


def _queries(source: Part, members: Array, target: Part, starts: Array, kinds: Array, least: Array) -> Queries:
    assert source.vectors is not None
    own = Vectors(*(array[members] for array in source.vectors))
    images = same_image(source, members, target)
    documents = same_text(source, source.captions.documents[members], target)
    return Queries(own, images, documents, starts, kinds, least)


def _of_groups(found: Neighbours, row: Array) -> Neighbours:
    """The list of its group for each caption."""
    starts = np.cumsum(found.counts) - found.counts
    places = ranges(starts[row], starts[row] + found.counts[row])
    return Neighbours(found.counts[row], found.places[places], found.similarities[places])

"""From caption numbers to their hard negatives: each distinct text is searched once, then its captions are told."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.negatives.inverted import Index
from stages.negatives.kernel import BLOCK, Members, search, spread
from stages.negatives.rule import Config

Array = npt.NDArray[Any]

BATCH = 4096  # texts a call of the kernel: enough to use a block's postings again while they are in cache


@dataclass(frozen=True)
class Found:
    """The hard negatives of some captions, one after the other; all arrays are parallel to the negatives."""

    counts: Array  # int64 (captions asked for,): how many each has
    captions: Array  # int32: the negatives' caption numbers
    similarities: Array  # float32


def mine_captions(index: Index, captions: Array, config: Config, threads: int = 1, block: int = BLOCK) -> Found:
    """The hard negatives of the captions of these numbers (int64), in their order.

    threads, block: change the speed, never the result.
    """
    documents, found = np.unique(index.captions.documents[captions], return_inverse=True)
    wanted = _wanted(index, captions, found, len(documents), config.top_k)
    order = np.argsort(found, kind="stable")  # the captions of one batch of texts are together
    bounds = np.searchsorted(found[order], np.arange(0, len(documents) + BATCH, BATCH))

    def mine_batch(batch: int) -> tuple[Array, Found]:
        texts = slice(batch * BATCH, (batch + 1) * BATCH)
        asked = order[bounds[batch] : bounds[batch + 1]]
        hits = search(
            index.postings,
            documents[texts].astype(np.int64),
            wanted[texts],
            np.float32(config.floor),
            np.float32(config.ceiling),
            min(block, max(len(index.captions.starts) - 1, 1)),
        )
        rows = (found[asked] - texts.start).astype(np.int64)
        return asked, _spread(index, captions[asked].astype(np.int64), rows, hits, config.top_k)

    return _in_order(len(captions), _run(mine_batch, len(bounds) - 1, threads))


def _wanted(index: Index, captions: Array, found: Array, num_texts: int, top_k: int) -> Array:
    """How many texts to look for: top_k, and as many as its largest image may take away; (texts,) int64."""
    others = index.captions.texts_of_image[index.captions.images[captions]] - 1
    taken = np.zeros(num_texts, np.int64)
    np.maximum.at(taken, found, others)
    return taken + top_k


def _spread(index: Index, captions: Array, rows: Array, hits: tuple[Array, Array, Array], top_k: int) -> Found:
    members = Members(index.captions.images, index.captions.starts, index.captions.members)
    counts, chosen, values = spread(captions, rows, *hits, members, top_k)
    kept = np.arange(top_k) < counts[:, None]
    return Found(counts, chosen[kept], values[kept])


def _run(mine_batch: Any, num_batches: int, threads: int) -> Iterator[tuple[Array, Found]]:
    if threads == 1:
        yield from map(mine_batch, range(num_batches))
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(mine_batch, range(num_batches))


def _in_order(num_captions: int, parts: Iterator[tuple[Array, Found]]) -> Found:
    """The parts' negatives in the order in which the captions were asked for."""
    asked, founds = [np.empty(0, np.int64)], [Found(*(np.empty(0, kind) for kind in ("i8", "i4", "f4")))]
    for part, found in parts:
        asked.append(part)
        founds.append(found)
    order = np.concatenate(asked)
    counts = np.concatenate([found.counts for found in founds])
    captions = np.concatenate([found.captions for found in founds])
    similarities = np.concatenate([found.similarities for found in founds])
    by_caption = np.argsort(np.repeat(order, counts), kind="stable")
    sorted_counts = np.zeros(num_captions, np.int64)
    sorted_counts[order] = counts
    return Found(sorted_counts, captions[by_caption], similarities[by_caption])

"""Weigh the terms of each distinct caption: TF-IDF as scikit-learn defines it, BM25 as rank-bm25 does.

Letters: D distinct captions (documents), V terms, P (document, term) pairs.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.negatives.rule import Config
from stages.negatives.words import terms

Array = npt.NDArray[Any]

# BM25Okapi's defaults (rank-bm25 0.2.2)
K1, B, EPSILON = 1.5, 0.75, 0.25


@dataclass(frozen=True)
class Vectors:
    """One sparse vector a document, its terms rarest first; similarity(q, d) is Σ query_weights[q] · weights[d]."""

    starts: Array  # int64 (D + 1,): document d has the pairs starts[d] … starts[d + 1] - 1
    terms: Array  # int32 (P,): ascending within a document; a term's number is its rank by rarity
    weights: Array  # float64 (P,), none is 0
    query_weights: Array  # float64 (P,); for TF-IDF the same as weights
    num_terms: int  # V

    @property
    def documents(self) -> Array:
        """The document of each pair, int64 (P,)."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))


def vectorise(texts: Sequence[str], copies: Array, config: Config) -> Vectors:
    """Vectors of the distinct normalised texts, of which copies[d] captions each are the corpus that is counted."""
    counted = count(texts, copies, config)
    return bm25(counted, copies) if config.scorer == "bm25" else tfidf(counted, copies)


@dataclass(frozen=True)
class Counts:
    """How often each document has each term that `min_df` and `max_df` leave."""

    documents: Array  # int64 (P,), ascending
    terms: Array  # int64 (P,), ascending within a document
    counts: Array  # float64 (P,), ≥ 1
    captions: Array  # float64 (V,): captions that have the term, ascending


def count(texts: Sequence[str], copies: Array, config: Config) -> Counts:
    """Count the terms; they are numbered by the captions that have them, rare terms first, then by name."""
    names, lengths, numbers = _number(texts, config)
    documents = np.repeat(np.arange(len(texts)), lengths)
    pairs, counts = np.unique(documents * max(len(names), 1) + numbers, return_counts=True)
    documents, numbers = np.divmod(pairs, max(len(names), 1))
    captions = np.bincount(numbers, weights=copies[documents], minlength=len(names))
    order = np.array(sorted(range(len(names)), key=lambda number: (captions[number], names[number])), dtype=np.int64)
    total = float(copies.sum())
    low, high = _captions(config.min_df, total), _captions(config.max_df, total)
    order = order[(captions[order] >= low) & (captions[order] <= high)] if len(order) else order
    rank = np.full(len(names), -1)
    rank[order] = np.arange(len(order))
    numbers = rank[numbers] if len(numbers) else numbers
    kept = np.flatnonzero(numbers >= 0)
    kept = kept[np.lexsort((numbers[kept], documents[kept]))]
    return Counts(documents[kept], numbers[kept], counts[kept].astype(np.float64), captions[order])


def _number(texts: Sequence[str], config: Config) -> tuple[list[str], Array, Array]:
    """(names of the terms, terms in each text, number of each term), terms numbered as they come."""
    known: dict[str, int] = {}
    lengths, numbers = array("q"), array("q")
    for text in texts:
        found = terms(text, config)
        lengths.append(len(found))
        numbers.extend([known.setdefault(term, len(known)) for term in found])
    return list(known), np.array(lengths, dtype=np.int64), np.array(numbers, dtype=np.int64)


def _captions(limit: int | float, total: float) -> float:
    return limit if isinstance(limit, int) else limit * total


def tfidf(counted: Counts, copies: Array) -> Vectors:
    """TfidfVectorizer's weights: count · idf, idf = ln((1 + n) / (1 + captions)) + 1, each vector of length 1."""
    idf = np.log((1 + copies.sum()) / (1 + counted.captions)) + 1
    raw = counted.counts * idf[counted.terms]
    squares = np.bincount(counted.documents, weights=raw * raw, minlength=len(copies))
    weights = raw / np.sqrt(squares)[counted.documents]
    return _vectors(counted, len(copies), weights, weights)


def bm25(counted: Counts, copies: Array) -> Vectors:
    """BM25Okapi's score of d for the query q, divided by that of q for itself, so that a ceiling has a meaning.

    Not symmetric. A caption whose score for itself is not positive (all its terms are in half of all captions or
    more, in a tiny corpus) has no negatives. The length of a caption counts the terms that min_df and max_df leave.
    """
    total = copies.sum()
    idf = np.log(total - counted.captions + 0.5) - np.log(counted.captions + 0.5)
    idf[idf < 0] = EPSILON * idf.mean() if len(idf) else 0.0
    lengths = np.bincount(counted.documents, weights=counted.counts, minlength=len(copies))
    mean = max((lengths * copies).sum() / max(total, 1), 1e-12)
    damping = K1 * (1 - B + B * lengths / mean)
    weights = idf[counted.terms] * counted.counts * (K1 + 1) / (counted.counts + damping[counted.documents])
    own = np.bincount(counted.documents, weights=weights * counted.counts, minlength=len(copies))[counted.documents]
    queries = np.divide(counted.counts, own, out=np.zeros_like(own), where=own > 0)
    return _vectors(counted, len(copies), weights, queries)


def _vectors(counted: Counts, num_documents: int, weights: Array, queries: Array) -> Vectors:
    kept = weights != 0  # the kernel takes a sum of 0 for a document that it has not met
    starts = np.searchsorted(counted.documents[kept], np.arange(num_documents + 1))
    return Vectors(
        starts.astype(np.int64),
        counted.terms[kept].astype(np.int32),
        weights[kept],
        weights[kept] if queries is weights else queries[kept],
        len(counted.captions),
    )

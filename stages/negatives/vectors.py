"""Weigh the terms of each distinct caption: TF-IDF as scikit-learn defines it, BM25 as rank-bm25 does.

Letters: D distinct captions (documents), V terms, P (document, term) pairs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pairloom.compiled import compiled
from stages.gathered import opened
from stages.negatives.rule import Config
from stages.negatives.tokens import Tokens

Array = npt.NDArray[Any]

# BM25Okapi's defaults (rank-bm25 0.2.2)
K1, B, EPSILON = 1.5, 0.75, 0.25
TOTAL = b"total"  # in a file's metadata


@dataclass(frozen=True)
class Statistics:
    """What is known of a corpus as a whole: all that a caption's vector depends on besides the caption."""

    names: (
        pa.Array
    )  # large_string (V,): the terms, those of fewest captions first, then by name. A term's place is its number
    captions: Array  # int64 (V,): captions that have the term
    total: int  # captions counted
    length: int  # terms in all of them, with repetitions


@dataclass(frozen=True)
class Vectors:
    """One sparse vector a document, its terms rarest first; similarity(q, d) is Σ query_weights[q] · weights[d]."""

    starts: Array  # int64 (D + 1,): document d has the pairs starts[d] … starts[d + 1] - 1
    terms: Array  # int32 (P,): ascending within a document
    weights: Array  # float64 (P,)
    query_weights: Array  # float64 (P,); for TF-IDF the same array as weights


@dataclass(frozen=True)
class Tally:
    """The terms of some captions."""

    terms: pa.Table  # name (large_string), captions that have it, times it comes (int64)
    total: int  # captions

    def save(self, path: Path) -> None:
        terms = self.terms.replace_schema_metadata({TOTAL: str(self.total)})
        with pa.ipc.new_stream(str(path), terms.schema) as stream:
            stream.write_table(terms)

    @classmethod
    def opened(cls, path: Path) -> Tally:
        terms = opened(path)
        return cls(terms.replace_schema_metadata(None), int((terms.schema.metadata or {})[TOTAL]))


def tally(tokens: Tokens, copies: Array) -> Tally:
    """Count over captions: document d stands for copies[d] of them."""
    captions, times = _captions_with(tokens.starts, tokens.terms, copies.astype(np.int64), len(tokens.names))
    return Tally(pa.table({"name": tokens.names, "captions": captions, "times": times}), int(copies.sum()))


def measure(tallies: Iterable[Tally], config: Config) -> Statistics:
    """All of them together, less the terms that min_df and max_df leave out."""
    together = reduce(united, tallies)
    terms, total = together.terms, together.total
    low, high = (limit if isinstance(limit, int) else limit * total for limit in (config.min_df, config.max_df))
    captions = terms["captions"].to_numpy()
    terms = terms.take(pa.array(np.flatnonzero((captions >= low) & (captions <= high))))
    terms = terms.take(pc.sort_indices(terms, sort_keys=[("captions", "ascending"), ("name", "ascending")]))
    names = pa.concat_arrays(terms["name"].chunks) if terms["name"].num_chunks else pa.array([], pa.large_string())
    return Statistics(names, terms["captions"].to_numpy(), total, int(terms["times"].to_numpy().sum()))


def united(one: Tally, other: Tally) -> Tally:
    """Both together."""
    terms = pa.concat_tables([one.terms, other.terms]).group_by("name")
    terms = terms.aggregate([("captions", "sum"), ("times", "sum")])
    return Tally(terms.rename_columns({"captions_sum": "captions", "times_sum": "times"}), one.total + other.total)


def vectorise(tokens: Tokens, statistics: Statistics, config: Config) -> Vectors:
    """Vectors of these documents by these statistics. Terms that those don't have count for nothing."""
    ranks = pc.fill_null(pc.index_in(tokens.names, value_set=statistics.names), -1).to_numpy().astype(np.int32)
    starts, terms, counts = _count(tokens.starts, tokens.terms, ranks)
    if config.scorer == "bm25":
        mean = max(statistics.length / max(statistics.total, 1), 1e-12)
        return Vectors(starts, terms, *_bm25(starts, terms, counts, inverse_frequency(statistics, config), mean))
    weights = _tfidf(starts, terms, counts, inverse_frequency(statistics, config))
    return Vectors(starts, terms, weights, weights)


def inverse_frequency(statistics: Statistics, config: Config) -> Array:
    """The idf of each term: smooth, as TfidfVectorizer has it, or BM25Okapi's with its floor for frequent terms."""
    captions, total = statistics.captions.astype(np.float64), statistics.total
    if config.scorer != "bm25":
        return np.asarray(np.log((1 + total) / (1 + captions)) + 1)
    idf = np.log(total - captions + 0.5) - np.log(captions + 0.5)
    idf[idf < 0] = EPSILON * idf.mean() if len(idf) else 0.0
    return np.asarray(idf)


def scales(statistics: Statistics, config: Config) -> Array:
    """(2, V) float64: `scale` and `usual` of postings.invert. A document's weights are about its terms' idf times one

    number. For BM25 the query has no idf, so that √idf on both sides makes them alike.
    """
    usual = np.abs(inverse_frequency(statistics, config))
    usual[usual < 1e-9] = 1.0
    return np.stack([np.sqrt(usual) if config.scorer == "bm25" else np.ones_like(usual), usual])


@compiled
def _captions_with(starts: Array, terms: Array, copies: Array, num_terms: int) -> tuple[Array, Array]:
    """How many captions have each term, and how often it comes in all of them, int64."""
    captions, times = np.zeros(num_terms, np.int64), np.zeros(num_terms, np.int64)
    last = np.full(num_terms, -1, np.int64)
    for document in range(len(starts) - 1):
        for at in range(starts[document], starts[document + 1]):
            times[terms[at]] += copies[document]
            if last[terms[at]] != document:
                last[terms[at]] = document
                captions[terms[at]] += copies[document]
    return captions, times


@compiled
def _count(starts: Array, terms: Array, ranks: Array) -> tuple[Array, Array, Array]:
    """(starts, terms, counts): the ranks of each document's terms, ascending, each once, and how often it comes."""
    pair_starts, pairs, counts = (
        np.zeros(len(starts), np.int64),
        np.empty(len(terms), np.int32),
        np.empty(len(terms), np.int32),
    )
    end = 0
    for document in range(len(starts) - 1):
        own = ranks[terms[starts[document] : starts[document + 1]]]
        own.sort()
        for term in own:
            if term < 0:
                continue
            if end > pair_starts[document] and pairs[end - 1] == term:
                counts[end - 1] += 1
            else:
                pairs[end], counts[end] = term, 1
                end += 1
        pair_starts[document + 1] = end
    return pair_starts, pairs[:end].copy(), counts[:end].copy()


@compiled
def _tfidf(starts: Array, terms: Array, counts: Array, idf: Array) -> Array:
    """TfidfVectorizer's weights: count · idf, each vector of length 1."""
    weights = np.empty(len(terms), np.float64)
    for document in range(len(starts) - 1):
        square = 0.0
        for at in range(starts[document], starts[document + 1]):
            weights[at] = counts[at] * idf[terms[at]]
            square += weights[at] * weights[at]
        for at in range(starts[document], starts[document + 1]):
            weights[at] /= np.sqrt(square)
    return weights


@compiled
def _bm25(starts: Array, terms: Array, counts: Array, idf: Array, mean: float) -> tuple[Array, Array]:
    """(weights, query weights): BM25Okapi's score of d for q over that of q for itself: then a ceiling has a meaning.

    Not symmetric. A caption whose score for itself is not positive (in a tiny corpus all its terms may be in half of
    the captions or more) has no negatives. A caption's length counts the terms that min_df and max_df leave.
    """
    weights, queries = np.empty(len(terms), np.float64), np.zeros(len(terms), np.float64)
    for document in range(len(starts) - 1):
        own = slice(starts[document], starts[document + 1])
        damping = K1 * (1 - B + B * counts[own].sum() / mean)
        score = 0.0
        for at in range(starts[document], starts[document + 1]):
            weights[at] = idf[terms[at]] * counts[at] * (K1 + 1) / (counts[at] + damping)
            score += weights[at] * counts[at]
        if score > 0:
            queries[own] = counts[own] / score
    return weights, queries

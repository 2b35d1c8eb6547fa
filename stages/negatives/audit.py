"""Mine some captions again by brute force, with scikit-learn or rank-bm25, and compare: exactness on a user's own data.

Only how a caption is cut into terms is ours (words.py): the weights, the similarities and the choice are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.negatives.captions import of_language
from stages.negatives.rule import Config
from stages.negatives.words import normalise, words

Array = npt.NDArray[Any]
CLOSE = 1e-6  # similarities are float32, and rounding decides between values that are nearer than this


@dataclass(frozen=True)
class Difference:
    """A caption whose list is not that of brute force."""

    image_id: Any
    caption_index: int
    said: str


def audit(captions: pa.Table, config: Config, chosen: Sequence[int], lists: Sequence[Any]) -> list[Difference]:
    """Where the lists of the chosen captions differ from brute force.

    captions: one row a caption, of table_of (captions.py); chosen: rows of it; lists: their negatives, each with
    image_id, caption_index and similarity. It takes seconds a hundred captions at a million.
    """
    found: list[Difference] = []
    langs = captions["lang"].to_pylist()
    for lang in dict.fromkeys(langs[row] for row in chosen):
        corpus = _Corpus(captions.take(pa.array(of_language(captions, lang))), config)
        for row, negatives in zip(chosen, lists, strict=True):
            if langs[row] != lang:
                continue
            image, index = (captions[name][row].as_py() for name in ("image_id", "caption_index"))
            found += [Difference(image, index, said) for said in corpus.objections(image, index, negatives)]
    return found


class _Corpus:
    """The captions of one language with the similarities of a library."""

    def __init__(self, captions: pa.Table, config: Config) -> None:
        self.config = config
        self.images, self.indexes = captions["image_id"].to_pylist(), captions["caption_index"].to_pylist()
        self.plain = [normalise(text) for text in captions["text"].to_pylist()]
        self.terms = [_terms(text, config) for text in self.plain]
        self.place = {name: row for row, name in enumerate(zip(self.images, self.indexes, strict=True))}
        self.order = sorted(range(len(self.plain)), key=lambda row: (self.images[row], self.indexes[row]))
        self.similar = _tfidf(self.terms, config) if config.scorer == "tfidf" else _bm25(self.terms)
        counts: dict[str, int] = {}
        for terms in self.terms:
            for term in set(terms):
                counts[term] = counts.get(term, 0) + 1
        self.common = {term for term, count in counts.items() if count > config.veto_common * len(self.plain)}

    def objections(self, image: Any, index: int, negatives: Any) -> Iterator[str]:
        own = [self.place[image, index]]
        if self.config.against == "image":
            own = [row for row, other in enumerate(self.images) if other == image]
        values = self.similar(own)
        admitted = self._admitted(image, own, values)
        wanted = sorted((values[row] for row in admitted), reverse=True)[: self.config.top_k]
        if len(negatives) != len(wanted):
            yield f"it has {len(negatives)} negatives, brute force {len(wanted)}"
            return
        for one, expected in zip(negatives, wanted, strict=True):
            row = self.place[one["image_id"], one["caption_index"]]
            right = row in admitted and abs(values[row] - expected) < CLOSE
            if not right or abs(one["similarity"] - expected) >= CLOSE:
                yield f"{one['text']!r} has similarity {one['similarity']:.6f}, brute force has {expected:.6f} there"
                return

    def _admitted(self, image: Any, own: Sequence[int], values: Array) -> set[int]:
        """The rows that the rule admits, of equal texts the first."""
        config, told = self.config, {self.plain[row] for row in own}
        known = self.common.union(*(self.terms[row] for row in own))
        seen: set[str] = set()
        admitted = set()
        near = np.flatnonzero((values > config.floor) & (values < config.ceiling))
        inside = set(near.tolist())
        for row in self.order if config.distinct else inside:
            if row not in inside or self.images[row] == image or self.plain[row] in told | seen:
                continue
            if config.veto == "captions" and known.issuperset(self.terms[row]):
                continue
            admitted.add(row)
            if config.distinct:
                seen.add(self.plain[row])
        return admitted


def _terms(text: str, config: Config) -> list[str]:
    """Runs of words of a normalised text, of each length that the settings name."""
    single = words(text, config.unspaced == "bigrams")
    low, high = config.ngram_range
    runs = [single[at : at + size] for size in range(low, high + 1) for at in range(len(single) - size + 1)]
    return [" ".join(run) for run in runs]


def _tfidf(terms: Sequence[Sequence[str]], config: Config) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(analyzer=list, min_df=config.min_df, max_df=config.max_df, dtype=np.float64)
    try:
        vectors = vectorizer.fit_transform(terms)
    except ValueError:  # no term is left
        return lambda own: np.zeros(len(terms))
    return lambda own: np.asarray((vectors[own] @ vectors.T).todense()).max(axis=0)


def _bm25(terms: Sequence[Sequence[str]]) -> Any:
    from rank_bm25 import BM25Okapi

    if not any(terms):
        return lambda own: np.zeros(len(terms))
    scorer = BM25Okapi([list(each) for each in terms])

    def similar(own: Sequence[int]) -> Array:
        found = np.full(len(terms), -np.inf)
        for row in own:
            scores = scorer.get_scores(list(terms[row]))
            if scores[row] > 0:
                found = np.maximum(found, scores / scores[row])
        return found

    return similar

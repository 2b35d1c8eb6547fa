"""Mine some captions again by brute force, with scikit-learn or rank-bm25, and compare: exactness on a user's own data.

Only how a caption is cut into terms is ours (words.py): the weights, the similarities and the choice are not. With
`scorer: embedding` the similarities are numpy's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.negatives.audit_vetoes import Candidates, veto_of
from stages.negatives.beside import Beside
from stages.negatives.captions import of_language
from stages.negatives.hubs import DEPTH
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


def audit(
    captions: pa.Table, config: Config, chosen: Sequence[int], lists: Sequence[Any], beside: Beside | None = None
) -> list[Difference]:
    """Where the lists of the chosen captions differ from brute force.

    captions: one row a caption, of table_of (captions.py); chosen: rows of it; lists: their negatives, each with
    image_id, caption_index and similarity. It takes seconds a hundred captions at a million. With `max_lists` the lists
    of all captions are mined so, as each depends on the others.
    """
    found: list[Difference] = []
    langs = captions["lang"].to_pylist()
    for lang in dict.fromkeys(langs[row] for row in chosen):
        corpus = _Corpus(captions, of_language(captions, lang), config, beside or Beside())
        for row, negatives in zip(chosen, lists, strict=True):
            if langs[row] != lang:
                continue
            image, index = (captions[name][row].as_py() for name in ("image_id", "caption_index"))
            found += [Difference(image, index, said) for said in corpus.objections(image, index, negatives)]
    return found


class _Corpus:
    """The captions of one language with the similarities of a library."""

    def __init__(self, every: pa.Table, rows: Array, config: Config, beside: Beside) -> None:
        captions = every.take(pa.array(rows))
        self.config = config
        self.images, self.indexes = captions["image_id"].to_pylist(), captions["caption_index"].to_pylist()
        self.plain = [normalise(text) for text in captions["text"].to_pylist()]
        terms = [terms_of(text, config) for text in self.plain]
        self.place = {name: row for row, name in enumerate(zip(self.images, self.indexes, strict=True))}
        self.own = defaultdict(list)
        for row, image in enumerate(self.images):
            self.own[image].append(row)
        texts = None if beside.texts is None else beside.texts[rows]
        self.similar = (
            _by_vectors(texts) if texts is not None and config.scorer == "embedding" else _similar(terms, config)
        )
        self.vetoed = veto_of(Candidates(self.plain, terms, self.images, texts), self.own, config, beside)

    def objections(self, image: Any, index: int, negatives: Any) -> Iterator[str]:
        asked = self.place[image, index]
        deep = self._list(asked, DEPTH * self.config.top_k)
        expected = self._limited(asked, deep)[: self.config.top_k]
        known = {row: value for value, row in self._admitted(asked)}
        if len(negatives) != len(expected):
            yield f"it has {len(negatives)} negatives, brute force {len(expected)}"
            return
        for one, (value, _) in zip(negatives, expected, strict=True):
            own = known.get(self.place[one["image_id"], one["caption_index"]], np.inf)
            if abs(own - value) >= CLOSE or abs(one["similarity"] - value) >= CLOSE:
                yield f"{one['text']!r} has similarity {one['similarity']:.6f}, brute force has {value:.6f} there"
                return

    def _list(self, asked: int, most: int) -> list[tuple[float, int]]:
        """(similarity, row) of the first that are left."""
        return self._admitted(asked)[:most]

    def _admitted(self, asked: int) -> list[tuple[float, int]]:
        """(similarity, row) of all that the rule admits, best first."""
        config, image = self.config, self.images[asked]
        own = self.own[image] if config.against == "image" else [asked]
        values, told = self.similar(own), {self.plain[row] for row in own}
        near = np.flatnonzero((values > config.floor) & (values < np.float32(config.ceiling))).tolist()
        order = sorted(near, key=lambda row: (-np.float32(values[row]), self.images[row], self.indexes[row]))
        seen, admitted = set(told), []
        for row in order:
            if self.images[row] == image or self.plain[row] in seen:
                continue
            if config.distinct:
                seen.add(self.plain[row])
            if not self.vetoed(image, row):
                admitted.append((float(values[row]), row))
        return admitted

    def _limited(self, asked: int, deep: list[tuple[float, int]]) -> list[tuple[float, int]]:
        """Those of a list that `max_lists` lets stay in it."""
        if self.config.max_lists is None:
            return deep
        return [(value, row) for value, row in deep if asked in self._keepers[row]]

    @cached_property
    def _keepers(self) -> dict[int, set[int]]:
        """Of each caption the captions whose lists keep it."""
        asking = defaultdict(list)
        for row in range(len(self.plain)):
            for value, other in self._list(row, DEPTH * self.config.top_k):
                asking[other].append((-np.float32(value), self.images[row], self.indexes[row], row))
        return {other: {row for *_, row in sorted(each)[: self.config.max_lists]} for other, each in asking.items()}


def terms_of(text: str, config: Config) -> list[str]:
    """Runs of words of a normalised text, of each length that the settings name."""
    single = words(text, config.unspaced == "bigrams")
    low, high = config.ngram_range
    runs = [single[at : at + size] for size in range(low, high + 1) for at in range(len(single) - size + 1)]
    return [" ".join(run) for run in runs]


def _by_vectors(texts: Array) -> Any:
    values = texts.astype(np.float16).astype(np.float64)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    unit = np.divide(values, lengths, out=np.zeros_like(values), where=lengths > 0)
    return lambda own: (unit[own] @ unit.T).max(axis=0)


def _similar(terms: Sequence[Sequence[str]], config: Config) -> Any:
    return _bm25(terms) if config.scorer == "bm25" else _tfidf(terms, config)


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

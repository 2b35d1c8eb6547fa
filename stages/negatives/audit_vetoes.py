"""The vetoes in plain Python, for the audit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from stages.negatives.beside import Beside
from stages.negatives.rule import Config
from stages.negatives.words import normalise, words

Array = npt.NDArray[Any]
Vetoed: TypeAlias = Callable[[Any, int], bool]  # (image, row of a candidate) -> whether the veto takes it
Pair: TypeAlias = tuple[str, str]
ANY = ""  # in a pair behind a number: any word that is not checked


@dataclass(frozen=True)
class Candidates:
    """The captions of one language."""

    plain: Sequence[str]  # normalised
    terms: Sequence[Sequence[str]]
    images: Sequence[Any]
    vectors: Array | None  # (captions, E)


def veto_of(captions: Candidates, own: Mapping[Any, Sequence[int]], config: Config, beside: Beside) -> Vetoed:
    """own: the rows of each image's captions."""
    vetoes: list[Vetoed] = []
    if "captions" in config.vetoes:
        vetoes.append(_by_captions(captions, own, config))
    if "tags" in config.vetoes:
        vetoes.append(_by_tags(captions, own, config, beside.tags or {}))
    if "score" in config.vetoes:
        assert captions.vectors is not None
        vetoes.append(_by_score(captions.vectors, config.veto_similarity or 0, beside.pictures or {}))
    return lambda image, row: any(vetoed(image, row) for vetoed in vetoes)


def _by_captions(captions: Candidates, own: Mapping[Any, Sequence[int]], config: Config) -> Vetoed:
    counts = Counter(term for terms in captions.terms for term in set(terms))
    common = {term for term, count in counts.items() if count > config.veto_common * len(captions.terms)}

    def vetoed(image: Any, row: int) -> bool:
        return common.union(*(captions.terms[one] for one in own[image])).issuperset(captions.terms[row])

    return vetoed


@dataclass
class _Told:
    """What an image's captions and tags tell."""

    words: set[str] = field(default_factory=set)
    pairs: set[Pair] = field(default_factory=set)


def _by_tags(
    captions: Candidates, own: Mapping[Any, Sequence[int]], config: Config, tags: Mapping[str, Sequence[str]]
) -> Vetoed:
    cut = {tag: words(normalise(tag), config.unspaced == "bigrams") for each in tags.values() for tag in each}
    checked = {form for each in cut.values() for word in each for form in _forms(word)}
    checked |= {*config.veto_words, *config.veto_numbers}
    single = [words(text, config.unspaced == "bigrams") for text in captions.plain]
    pairs = [{pair for pair in pairwise(text) if _is_claim(pair, checked, config)} for text in single]
    known: dict[Any, _Told] = {}

    def told(image: Any) -> _Told:
        if image not in known:
            found = known[image] = _by_tags_of([cut[tag] for tag in tags.get(str(image), ())], config.veto_numbers)
            found.words.update(*(captions.terms[row] for row in own[image]))
            found.pairs.update(*(pairs[row] for row in own[image]))
        return known[image]

    def vetoed(image: Any, row: int) -> bool:
        found = told(image)
        if not found.words >= checked.intersection(captions.terms[row]):
            return False
        either = ({pair, (pair[0], pair[1] if pair[1] in checked else ANY)} for pair in pairs[row])
        return not any(found.pairs.isdisjoint(each) for each in either)

    return vetoed


def _is_claim(pair: Pair, checked: set[str], config: Config) -> bool:
    first, second = pair
    counts_all = first in config.veto_numbers and second not in config.veto_partitives
    return first in checked and (second in checked or counts_all)


def _by_tags_of(tags: Sequence[Sequence[str]], numbers: Sequence[str]) -> _Told:
    found = _Told()
    counts = Counter(word for tag in tags for word in set(tag))
    for tag in tags:
        forms = [form for word in tag for form in _forms(word)]
        found.words.update(forms)
        found.pairs.update((one, other) for one in forms for other in forms)
    found.pairs.update((number, ANY) for number in numbers[len(tags) - 1 : len(tags)] if tags)
    for count in (*counts.values(), len(tags)):
        found.words.update(numbers[count - 1 : count] if count else ())
    for word, count in counts.items():
        found.pairs.update((number, form) for number in numbers[count - 1 : count] for form in _forms(word))
    return found


def _forms(word: str) -> tuple[str, ...]:
    return word, f"{word}s", f"{word}es"


def _by_score(vectors: Array, above: float, pictures: Mapping[str, Array]) -> Vetoed:
    texts = vectors.astype(np.float16).astype(np.float64)

    def vetoed(image: Any, row: int) -> bool:
        picture = pictures.get(str(image), np.zeros(0)).astype(np.float16).astype(np.float64)
        if not picture.any() or not texts[row].any():
            return False
        cosine = picture @ texts[row] / np.linalg.norm(picture) / np.linalg.norm(texts[row])
        return bool(np.float32(cosine) > np.float32(above))

    return vetoed

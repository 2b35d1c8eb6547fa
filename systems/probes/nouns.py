"""Nouns with the adjective that stands before them: the file that the study's code writes, and clusters of each noun.

The layout is that of `df_info.csv` (github.com/tttyuntian/vlm_lexical_grounding, get_target_embs.py), which its authors
did not release filled: their code makes it of wikiHow and of MIT-States' adjectives.
"""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pairloom.errors import InputError
from pairloom.table import Array

COLUMNS = ("adjective", "noun", "text")  # and row_id and count, which say nothing more
MARKS = re.compile(r"^\[CLS\] | \[SEP\]$")  # that the study's code puts around each sentence
SAMPLES, SEEDS = 20, 5  # of an adjective with a noun, and draws of these (kmeans_clustering.py)


@dataclass(frozen=True)
class Noun:
    """A noun at characters start to stop of a text, and the adjective that is true of it."""

    text: str
    start: int
    stop: int
    adjective: str


def read_table(path: Path) -> list[Noun]:
    """The rows of a df_info.csv, one an occurrence of "adjective noun" in a text.

    Rows of one text with the same words are its first, second … occurrence. Raises InputError, with the row and a cure,
    where a column is missing or the words are not there.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if lacking := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
                raise InputError(f"it has no column {lacking[0]}", str(path), f"give {', '.join(COLUMNS)}")
            return list(_nouns(reader, path))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"it cannot be read: {error}", str(path), "give a CSV file in UTF-8") from error


def _nouns(rows: Iterator[Mapping[str, str | None]], path: Path) -> Iterator[Noun]:
    seen = Counter[tuple[str, ...]]()
    for number, row in enumerate(rows, 1):
        adjective, noun, text = (row[name] or "" for name in COLUMNS)
        text = MARKS.sub("", text)
        found = re.finditer(rf"\b{re.escape(adjective)} {re.escape(noun)}", text, re.IGNORECASE)
        ends = [one.end() for one in found] if adjective and noun else []
        place = seen[adjective, noun, text]
        seen[adjective, noun, text] += 1
        if place >= len(ends):
            given = f"the text does not have {adjective!r} {noun!r} {place + 1} times: {text[:60]!r}"
            raise InputError(given, f"{path}, row {number}", "correct the words, or take the row out")
        yield Noun(text, ends[place] - len(noun), ends[place], adjective.lower())


def by_noun(vectors: Array, nouns: Sequence[Noun], seed: int) -> dict[str, float]:
    """k-means of each noun's vectors into as many clusters as it has adjectives: means over nouns and five draws.

    vectors: (N, H). Of each adjective with a noun 20 are drawn where there are more. Nouns with one adjective, or with
    as many rows as adjectives, say nothing and are left out. `nouns` is how many are left. The study's code then takes
    the first rows of the table for every noun (it loses their numbers), which is not done here.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import homogeneity_completeness_v_measure

    places: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for place, noun in enumerate(nouns):
        places[noun.text[noun.start : noun.stop].lower()][noun.adjective].append(place)
    measures, kept = [], set[str]()
    for draw in range(SEEDS):
        rng = np.random.default_rng([seed, draw])
        for name, own in places.items():
            drawn = [rng.permutation(of_adjective)[:SAMPLES] for of_adjective in own.values()]
            labels = np.repeat(np.arange(len(own)), [len(one) for one in drawn])
            if len(own) > 1 and len(labels) > len(own):
                kept.add(name)
                found = KMeans(len(own), n_init=1, random_state=seed + draw).fit_predict(vectors[np.concatenate(drawn)])
                measures.append(homogeneity_completeness_v_measure(labels, found))
    if not kept:
        return {"nouns": 0}
    homogeneity, completeness, v = np.mean(measures, axis=0).tolist()
    return {"nouns": len(kept), "homogeneity": homogeneity, "completeness": completeness, "v": v}

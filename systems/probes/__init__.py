"""What the text side of a model knows: the probes of the study of lexical grounding (arXiv:2109.10246), on given files.

The model is frozen and sees no image. Small probes on top of it are trained and tested by cross-validation, so that
their figures are of rows that they were not fitted to. The study reports the best score on the validation set itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pairloom.errors import InputError
from pairloom.loader.batch import Batch, Example, Regions
from pairloom.loader.collate import collate
from pairloom.loader.tokenizer import Tokenizer
from pairloom.table import Array
from systems.probes.nouns import Noun, by_noun, read_table
from trainer.learner import Learner

__all__ = [
    "CHOICES",
    "NOUNS",
    "Choice",
    "Noun",
    "adjectives",
    "choose",
    "encoded",
    "noun_vectors",
    "read",
    "read_nouns",
]

HERE = Path(__file__).parent
CHOICES, NOUNS = HERE / "choices.jsonl", HERE / "nouns.jsonl"  # a few lines of our own, to try the probes with
AT_ONCE, FOLDS, SEEDS = 64, 5, 5


@dataclass(frozen=True)
class Choice:
    """A goal and two ways to reach it, in PIQA's format. Right is 0 or 1."""

    goal: str
    sol1: str
    sol2: str
    label: int


def read(path: Path, kind: type[Any], labels: Path | None = None) -> list[Any]:
    """One JSON object a line. labels: PIQA's own file, one number a line, where the objects have none."""
    given = labels.read_text(encoding="utf-8").split() if labels else None
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        try:
            value = json.loads(line) | ({} if given is None else {"label": int(given[number])})
            found.append(kind(**{name: value[name] for name in kind.__dataclass_fields__}))
        except (ValueError, KeyError, IndexError, TypeError) as error:
            where = f"{path}, line {number + 1}"
            raise InputError(
                f"it cannot be read: {error!r}", where, f"give {', '.join(kind.__dataclass_fields__)}"
            ) from error
    return found


def read_nouns(path: Path) -> list[Noun]:
    """A CSV file as the study's code writes it (nouns.py), or one JSON object a line."""
    return read_table(path) if path.suffix == ".csv" else read(path, Noun)


@torch.no_grad()
def encoded(
    learner: Learner, tokenizer: Tokenizer, texts: Sequence[tuple[str, str | None]]
) -> Iterable[tuple[Batch, Array]]:
    """Batches of texts without an image, and the last layer of their words, float32 [B, T, H]."""
    width = learner.shapes.feature_width or 1
    nothing = Regions(np.zeros((0, width), np.float16), np.zeros((0, 7), np.float32), np.zeros(0, bool))
    for start in range(0, len(texts), AT_ONCE):
        words = [tokenizer.words(first, second) for first, second in texts[start : start + AT_ONCE]]
        batch = collate([Example(b"", 0, one, nothing) for one in words], tokenizer.pad)
        yield batch, learner.eval().model(batch).words_BTH.float().numpy()


def choose(learner: Learner, tokenizer: Tokenizer, choices: Sequence[Choice], seed: int = 0) -> dict[str, float]:
    """Share of choices that a linear probe on the first token of "goal, solution" gets right. Chance is a half.

    The probe scores both solutions with the same weights: a logistic regression on the difference of their vectors. The
    study probes the pooled output. The first token is what every model has.
    """
    texts = [(one.goal, way) for one in choices for way in (one.sol1, one.sol2)]
    first = np.concatenate([hidden[:, 0] for _, hidden in encoded(learner, tokenizer, texts)])
    return {"accuracy": _cross_validated(first[1::2] - first[::2], [one.label for one in choices], seed), "chance": 0.5}


def adjectives(learner: Learner, tokenizer: Tokenizer, nouns: Sequence[Noun], seed: int = 0) -> dict[str, Any]:
    """How well noun vectors tell the adjective that stands by them.

    A noun's vector is the mean of the last layer over its tokens. k-means with as many clusters as there are
    adjectives, mean of five seeds: homogeneity, completeness, V. by_noun: the same within each noun, as the study has
    it (nouns.by_noun). Then a linear probe. chance: the commonest one.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import homogeneity_completeness_v_measure

    vectors, kept = noun_vectors(learner, tokenizer, nouns)
    names = sorted({noun.adjective for noun in kept})
    labels = [names.index(noun.adjective) for noun in kept]
    means = KMeans(len(names), n_init=1)
    measures = [
        homogeneity_completeness_v_measure(labels, means.set_params(random_state=seed + i).fit_predict(vectors))
        for i in range(SEEDS)
    ]
    homogeneity, completeness, v = np.mean(measures, axis=0).tolist()
    accuracy = _cross_validated(vectors, labels, seed)
    chance = max(np.bincount(labels)) / len(labels)
    whole = {"homogeneity": homogeneity, "completeness": completeness, "v": v, "accuracy": accuracy, "chance": chance}
    return {**whole, "by_noun": by_noun(vectors, kept, seed)}


def noun_vectors(learner: Learner, tokenizer: Tokenizer, nouns: Sequence[Noun]) -> tuple[Array, list[Noun]]:
    """(vectors [N, H], the nouns they are of: those whose tokens were not cut off)."""
    vectors, kept = [], []
    rows = (row for _, hidden in encoded(learner, tokenizer, [(n.text, None) for n in nouns]) for row in hidden)
    for noun, row in zip(nouns, rows, strict=True):
        offsets = tokenizer.backend.encode(noun.text, add_special_tokens=False).offsets[: tokenizer.max_tokens - 2]
        places = [1 + i for i, (start, stop) in enumerate(offsets) if start < noun.stop and stop > noun.start]
        if places:
            vectors.append(row[places].mean(axis=0))
            kept.append(noun)
    return np.stack(vectors), kept


def _cross_validated(vectors: Array, labels: Sequence[int], seed: int) -> float:
    """Accuracy of a logistic regression on standardised vectors over five folds, every label in each."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fewest = min(np.bincount(labels)[np.unique(labels)])
    if fewest < 2:
        raise InputError("a label has only one line", "the probe's file", "give each label at least two lines")
    folds = StratifiedKFold(min(FOLDS, int(fewest)), shuffle=True, random_state=seed)
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    return float(cross_val_score(probe, vectors, labels, cv=folds).mean())

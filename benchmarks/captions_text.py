"""Text for the benchmark of hard negatives: seeded captions by Zipf's law with topics, and WordNet's glosses."""

from __future__ import annotations

from pathlib import Path

import numpy as np

WORDS, STOP_WORDS, TOPICS = 40_000, 60, 500
WORDNET = Path("/usr/share/wordnet")  # of Debian's package wordnet-base


def made_up(number: int, seed: int = 0, stop_words: bool = True) -> list[str]:
    """Captions of 6 to 14 words: a third stop words, the others by Zipf's law, half of them from the topic.

    Without stop words those places are left out.
    """
    random = np.random.default_rng(seed)
    lengths = random.integers(6, 15, number)
    total = int(lengths.sum())
    topic = np.repeat(random.integers(0, TOPICS, number), lengths)
    rank = np.exp(random.random(total) * np.log(WORDS)).astype(np.int64)  # P(rank) ~ 1 / rank
    word = np.where(random.random(total) < 0.5, rank, (rank * 7919 + topic * 104_729) % WORDS)
    stop = random.random(total) < 1 / 3
    word = np.where(stop, WORDS + random.integers(0, STOP_WORDS, total), word)
    ends = np.cumsum(lengths)
    if not stop_words:
        kept = np.concatenate([[0], np.cumsum(~stop)])
        word, ends, lengths = word[~stop], kept[ends], kept[ends] - kept[ends - lengths]
    names = np.array([f"w{number}" for number in range(WORDS + STOP_WORDS)])[word]
    return [" ".join(names[end - length : end]) for end, length in zip(ends, lengths, strict=True)]


def glosses() -> list[str]:
    """WordNet's definitions and examples, one a line of its data files. Empty where it is not installed."""
    found: list[str] = []
    for name in ("noun", "verb", "adj", "adv"):
        file = WORDNET / f"data.{name}"
        if file.exists():
            lines = file.read_text(encoding="utf-8").split("\n")
            found += [line.split(" | ", 1)[1].strip() for line in lines if " | " in line and not line.startswith("  ")]
    return found

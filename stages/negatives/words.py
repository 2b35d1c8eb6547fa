"""What a term is: scikit-learn's words, and character bigrams where a script has no spaces; in plain Python.

tokens.py does the same compiled. A test holds the two together, and to CountVectorizer's analyser.
"""

from __future__ import annotations

import re
import unicodedata

WORD = re.compile(r"\b\w\w+\b")  # TfidfVectorizer's token_pattern: words of one letter are no terms

# Letters and signs of scripts written without spaces between words, without their punctuation.
_UNSPACED = (
    "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
    "\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # Hiragana, Katakana
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e50-\u0e59\u0e80-\u0eff"  # Thai, Lao
    "\u1000-\u1049\u1050-\u109f\u1780-\u17d3\u17dc-\u17dd\u17e0-\u17e9"  # Burmese, Khmer
)
UNSPACED = re.compile(f"([{_UNSPACED}]+)")


def normalise(text: str) -> str:
    """What two captions share that count as identical: NFC, lower case, single spaces."""
    return " ".join(unicodedata.normalize("NFC", text).lower().split())


def words(normalised: str, bigrams: bool = True) -> list[str]:
    """The words of a normalised text in order, with repetitions. May be empty.

    bigrams: a run of unspaced script gives its overlapping character pairs (a run of one stays one). That is the usual
    choice where no dictionary is at hand: no word boundary is guessed, and so none wrongly.
    """
    if not bigrams:
        return WORD.findall(normalised)
    found: list[str] = []
    for position, part in enumerate(UNSPACED.split(normalised)):
        found += _pairs(part) if position % 2 else WORD.findall(part)
    return found


def _pairs(run: str) -> list[str]:
    return [run[start : start + 2] for start in range(max(len(run) - 1, 1))]

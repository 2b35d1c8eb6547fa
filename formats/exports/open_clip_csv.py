"""open_clip's list (--dataset-type csv): FOLDER/pairs.csv, tab-separated, filepath and title, a line a caption.

open_clip opens a path as it stands, from the folder in which it was started: paths begin with the export's folder as it
was named. A tab or line end in a caption becomes a space, as a list without quotes can hold none.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from formats.exports.numbering import picture
from formats.exports.pairs import Caption, Pair
from formats.exports.settings import Settings
from formats.features.lines import LineFile

NAME = "pairs.csv"
PICTURES = "needed"


def entry(pair: Pair, settings: Settings) -> Pair:
    """The pair without its regions."""
    return replace(pair, regions=None)


class Writer:
    """FOLDER/pairs.csv and FOLDER/images."""

    def __init__(self, folder: Path, settings: Settings, state: Mapping[str, Any]) -> None:
        self._folder = folder
        self._file = LineFile(folder / NAME, dict(state))
        if not state:
            self._file.write(b"filepath", b"title")

    def add(self, entry: Pair) -> None:
        path = self._folder / picture(self._folder, entry)
        for one in entry.captions if entry.image else ():
            self._file.write(str(path).encode(), flat(one.text).encode())

    def flush(self) -> dict[str, Any]:
        return self._file.flush()

    def close(self) -> None:
        self._file.close()


def flat(text: str) -> str:
    """A caption on one line, as pandas reads it from a list: a quote that opens a field would swallow what follows."""
    plain = " ".join(text.split())
    return '"' + plain.replace('"', '""') + '"' if '"' in plain else plain


def read(folder: Path) -> Iterator[Pair]:
    """The pairs of a folder, by the names of their pictures."""
    with (folder / NAME).open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))[1:]
    for path, lines in groupby(rows, key=lambda row: row[0]):
        inside = Path(path).relative_to(folder / "images")
        key = inside.with_suffix("").as_posix()
        texts = [Caption(text) for _, text in lines]
        yield Pair(key=key, image=Path(path).read_bytes(), format="", width=0, height=0, captions=texts)


def finish(out: Path, splits: dict[str, int], settings: Settings) -> None:
    """Nothing belongs to all splits."""

"""Captions for features, found by a picture's key: a list of any kind, or COCO's or Karpathy's JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from formats import datasets
from formats.datasets.opened import Data
from formats.features.keys import Keys, forms
from formats.lists.bad import Bad
from formats.lists.captions import Columns, read_captions
from formats.locators import parse
from formats.pictures import open_root
from pairloom.errors import InputError

Size = tuple[int, int]
SOURCE = "captions"  # what the places of pictures begin with while captions are read


@dataclass
class Captions:
    """Texts by key. Which of them were asked for is remembered."""

    ids: list[str]  # of each caption
    texts: list[str]
    langs: list[str | None]
    sizes: Mapping[str, Size] = field(default_factory=dict)  # id -> (width, height) of its picture, where it is said
    numbers: Mapping[str, str] = field(default_factory=dict)  # a number of a picture -> its id, where they differ

    def __post_init__(self) -> None:
        self._keys, self._asked = Keys(self.ids), bytearray(len(self.ids))

    def of(self, key: str) -> tuple[list[tuple[str, str | None]], Size | None]:
        """([(text, language)] of this picture, its size if that is known)."""
        rows = self._rows(key)
        for row in rows:
            self._asked[row] = 1
        found = [(self.texts[row], self.langs[row]) for row in rows if self.texts[row]]
        return found, self.sizes.get(self.ids[rows[0]]) if rows else None

    def _rows(self, key: str) -> list[int]:
        """By the name, else by a number that the file gives the picture, else by the number at the end of the name."""
        found = self._keys.rows(key, range(2))
        if not len(found) and key in self.numbers:
            found = self._keys.rows(self.numbers[key], range(1))
        rows: list[int] = (found if len(found) else self._keys.rows(key, range(2, 3))).tolist()
        return rows

    def unasked(self) -> Iterator[str]:
        """The ids that nothing asked for, each once."""
        yield from dict.fromkeys(key for key, asked in zip(self.ids, self._asked, strict=True) if not asked)


def read(path: Path, columns: Columns | None = None) -> Captions:
    """The captions of a file, or of UNITER's text database. Raises InputError if it is none of the kinds."""
    if (path / "id2len.json").is_file():
        from formats.features import uniter_texts  # which needs packages of an extra

        found = list(uniter_texts.captions(path))
        return Captions([key for key, _ in found], [text for _, text in found], [None] * len(found))
    content = _json_object(path) if path.is_file() and path.suffix == ".json" else None
    if content is None:
        listed = read_captions(str(path), columns)
        return Captions(
            [str(one) for one in listed.ids.to_pylist()], listed.texts.to_pylist(), listed.langs.to_pylist()
        )
    try:
        return _coco(content) if "annotations" in content else _karpathy(content)
    except (KeyError, TypeError, ValueError) as error:
        fix = "give COCO's captions_….json, Karpathy's dataset_….json, or a list with columns image_id and caption"
        raise InputError(f"it has no captions as COCO or Karpathy writes them: {error!r}", str(path), fix) from error


def of_dataset(path: Path, name: str) -> Captions:
    """The captions of a data set (a file of it, or its folder) in a format of formats/datasets. No picture is needed.

    A picture's key is its path there. Raises InputError for the first row that can't be read.
    """
    data = Data(str(path), SOURCE, open_root(str(path if path.is_dir() else path.parent)))
    ids, texts, langs = list[str](), list[str](), list[str | None]()
    for file, number, row in datasets.read(name, data):
        if isinstance(row, Bad):
            raise InputError(row.said, f"{data.where(file)}, row {number}", row.fix)
        place = parse(row.url, {SOURCE})
        for said in row.captions:
            ids.append(place.path if place else row.url)
            texts.append(said["text"] or "")
            langs.append(said["lang"])
    return Captions(ids, texts, langs)


def _json_object(path: Path) -> dict[str, Any] | None:
    """The object that a file holds. None where it begins with a list, as a list of captions does."""
    with path.open("rb") as file:
        if not file.read(64).lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"{"):
            return None
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"it is not JSON: {error}", str(path), "take it from a copy") from error
    return content


def _coco(content: Mapping[str, Any]) -> Captions:
    """By the image's id, as COCO names its files. Where a file has other names for them, by these or its id."""
    images = content.get("images", ())
    names = {str(one["id"]): str(one["file_name"]) for one in images if one.get("file_name")}
    if all(forms(name)[2] == number for number, name in names.items()):
        names = {}
    found = [
        (names.get(str(one["image_id"]), str(one["image_id"])), str(one["caption"])) for one in content["annotations"]
    ]
    sized = ((str(one["id"]), one) for one in images if "width" in one and "height" in one)
    sizes = {names.get(number, number): (int(one["width"]), int(one["height"])) for number, one in sized}
    return Captions([key for key, _ in found], [text for _, text in found], [None] * len(found), sizes, names)


def _karpathy(content: Mapping[str, Any]) -> Captions:
    found = [(str(one["filename"]), str(said["raw"])) for one in content["images"] for said in one["sentences"]]
    return Captions([key for key, _ in found], [text for _, text in found], [None] * len(found))

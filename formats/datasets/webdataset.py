"""WebDataset: tars in which the files of a sample follow each other, named KEY.jpg, KEY.txt, KEY.json, …

KEY is the path up to the first dot of the file's name, as webdataset has it. Of several pictures of a sample the first
is taken. Captions are those of .txt or .caption, else of the .json. A .cls and the fields of the .json go to `extra`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import xxhash

from formats.datasets.folder import PICTURES, URL, record_of
from formats.datasets.opened import Data
from formats.lists.bad import Bad, is_utf8
from formats.lists.urls import Pair, Row, pair_of
from formats.names import as_text
from formats.pictures.errors import SourceError
from formats.pictures.roots import Stream
from formats.pictures.tar import Member, scanned

ABOVE = ("folder",)
KEY = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)", re.DOTALL)
TEXTS = ("txt", "caption", "text")
MOST_TEXT = 16 << 20  # bytes of a text or json


def recognise(data: Data) -> str | None:
    found = data.named(".tar")
    return f"it has tars, such as {as_text(found[0])}" if found else None


def rows(data: Data) -> Iterator[Row]:
    for file in data.named(".tar"):
        yield from of_tar(data, file)


@dataclass
class Sample:
    """The files of one key."""

    key: str
    picture: str | None = None  # the member's name
    others: list[str] = field(default_factory=list)  # endings that are neither picture nor text
    texts: dict[str, bytes] = field(default_factory=dict)  # by ending


def of_tar(data: Data, file: str) -> Iterator[Row]:
    """The rows of one tar. What cannot be read, is a link, lacks its picture or comes twice is a Bad, by name."""
    seen = set[int]()
    number = 0
    with data.opened(file) as opened:
        members = scanned(f"{data.source}:{file}", opened, data.root.remote, data.kept)
        for key, group in groupby(_caught(members), key=_key):
            number += 1
            found = list(group)
            yield from ((file, number, bad) for each in found if (bad := _refused(each[0], key)) is not None)
            if key is None:
                continue
            digest = xxhash.xxh3_64_intdigest(key.encode("utf-8", "surrogateescape"))
            sample = _sample(key, [each for each in found if each[0].refused is None])
            if digest in seen:
                said = f"the key {as_text(key)!r} stands in the tar a second time"
                yield file, number, Bad(as_text(key), said, "give each sample of a tar a key of its own")
            else:
                seen.add(digest)
                yield file, number, _row(data, file, sample)


def _caught(members: Iterator[tuple[Member, Stream]]) -> Iterator[tuple[Member, Any]]:
    """The members with their text, if they may have one. A tar that ends early gives a last member that says so."""
    try:
        for member, stream in members:
            ending = (found := KEY.fullmatch(member.name)) and found[2].lower().rpartition(".")[2]
            wanted = ending in (*TEXTS, "json", "cls") and member.size <= MOST_TEXT and not member.refused
            if wanted:
                stream.seek(member.offset)
            yield member, stream.read(member.size) if wanted else None
    except SourceError as error:
        yield Member("", 0, 0, error.detail), None


def _key(each: tuple[Member, Any]) -> str | None:
    found = KEY.fullmatch(each[0].name)
    return found[1] if found and each[0].refused is None else None


def _refused(member: Member, key: str | None) -> Bad | None:
    if member.refused is None:
        name = as_text(member.name)
        return None if key else Bad(name, f"member {name!r} is not called KEY.ENDING", "rename it, or take it out")
    if not member.name:
        return Bad("", f"{member.refused}; what follows is lost", "fetch the tar again")
    return Bad(as_text(member.name), f"member {as_text(member.name)!r}: {member.refused}", "write it as a plain file")


def _sample(key: str, found: list[tuple[Member, Any]]) -> Sample:
    sample = Sample(key)
    for member, content in found:
        ending = member.name[len(key) + 1 :].lower()
        last = ending.rpartition(".")[2]
        if f".{last}" in PICTURES:
            # of `jpg` and `seg.png` the plain one is the picture
            plain = sample.picture is None or ("." not in ending and "." in sample.picture[len(key) + 1 :])
            sample.picture = member.name if plain else sample.picture
        elif content is not None:
            sample.texts.setdefault(ending, content)
        else:
            sample.others.append(ending)
    return sample


def _row(data: Data, file: str, sample: Sample) -> Pair | Bad:
    if sample.picture is None:
        said = f"the key {as_text(sample.key)!r} has {', '.join([*sample.texts, *sample.others])} and no picture"
        return Bad(as_text(sample.key), said, "put the picture beside them, or take them out")
    record: dict[str, Any] = {}
    if "json" in sample.texts:
        found = record_of(sample.texts["json"].decode("utf-8-sig", "surrogateescape"), f"{sample.key}.json")
        if isinstance(found, Bad):
            return found
        record = found
    texts = {name: content.decode("utf-8-sig", "surrogateescape") for name, content in sample.texts.items()}
    caption = next((texts[name] for name in TEXTS if texts.get(name)), None)
    if (bad := next((said for said in (caption, texts.get("cls")) if said and not is_utf8(said)), None)) is not None:
        return Bad.not_utf8(bad)
    if caption and data.columns.captions:
        record[data.columns.captions[0]] = [caption]
    if "cls" in texts:
        record.setdefault("cls", texts["cls"].strip())
    return pair_of({**record, "key": sample.key, URL: data.locator(file, sample.picture)}, URL, [], data.columns)

"""Captions that come later: a part of their own in the index, and the old captions' lists merged with what it adds.

Only with `idf: frozen`: the old vectors stay as they are, so that what was found between old captions holds. Then

    the best of all captions = the best of (the best of the old ones, the best of the new ones)

for every old caption, and a new caption is searched among all. Words that the last full build did not know count for
nothing, as for TfidfVectorizer.transform.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.contract import Before
from stages.negatives.captions import languages, of_language
from stages.negatives.inverted import finish, open_part, open_statistics, read, save
from stages.negatives.lists import Lists, flat
from stages.negatives.rule import Config

LANGUAGES, SHARDS, FRESH, TOLD = "languages.json", "shards.json", "fresh.json", "told"


def digest(captions: pa.Table) -> str:
    """SHA-256 of the captions of a shard: what the index depends on."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, captions.schema) as writer:
        writer.write_table(captions.combine_chunks())
    return hashlib.sha256(sink.getvalue()).hexdigest()


def write(shards: Mapping[str, pa.Table], config: Config, folder: Path) -> None:
    """A full build: index these captions (captions.captions_of) language by language."""
    captions = pa.concat_tables(shards.values())
    langs = languages(captions)
    for number, lang in enumerate(langs):
        ready = read(captions.take(pa.array(of_language(captions, lang))), config)
        save(folder / str(number), ready.statistics, finish(ready, config), [])
    _note(folder, langs, shards, {})


def add(shards: Mapping[str, pa.Table], config: Config, folder: Path, before: Before) -> bool:
    """Index the shards that are new since `before`; False if that can't be done exactly, and nothing was written."""
    if config.idf != "frozen" or not (before.index / SHARDS).exists():
        return False
    known: dict[str, str] = json.loads((before.index / SHARDS).read_text(encoding="utf-8"))
    new = [name for name in shards if name not in known]
    changed = [name for name, old in known.items() if name not in shards or digest(shards[name]) != old]
    if changed or not new:
        return False
    captions = pa.concat_tables([shards[name] for name in new])
    langs: list[str | None] = json.loads((before.index / LANGUAGES).read_text(encoding="utf-8"))
    olds = [sorted((before.index / str(n)).glob("*/"), key=lambda path: int(path.name)) for n in range(len(langs))]
    tables = [[open_part(path).captions.table for path in paths] for paths in olds]
    ids = captions["image_id"].combine_chunks()
    if any(pc.any(pc.is_in(ids, table["image_id"].combine_chunks())).as_py() for own in tables for table in own):
        return False  # an image that was there has more captions now: its part would have to change
    fresh = {}
    for number, lang in enumerate(langs):
        _link(before.index / str(number), folder / str(number))
        own = captions.take(pa.array(of_language(captions, lang)))
        if len(own):
            ready = read(own, config, len(own), open_statistics(before.index / str(number)))
            save(folder / str(number), ready.statistics, finish(ready, config), tables[number])
            fresh[str(number)] = len(tables[number])
    for lang in languages(captions):
        if lang not in langs:
            ready = read(captions.take(pa.array(of_language(captions, lang))), config)
            save(folder / str(len(langs)), ready.statistics, finish(ready, config), [])
            langs.append(lang)
    _link(before.table, folder / TOLD)
    _note(folder, langs, shards, fresh)
    return True


def _note(folder: Path, langs: list[str | None], shards: Mapping[str, pa.Table], fresh: Mapping[str, int]) -> None:
    digests = {name: digest(table) for name, table in shards.items()}
    for name, content in ((LANGUAGES, langs), (SHARDS, digests), (FRESH, fresh)):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")


def _link(source: Path, target: Path) -> None:
    """The same files under another name; copies where the file system has no links. They are never written again."""

    def link(file: str, name: str) -> None:
        try:
            os.link(file, name)
        except OSError:
            shutil.copyfile(file, name)

    shutil.copytree(source, target, copy_function=link)


@dataclass(frozen=True)
class Told:
    """The lists that a finished run had told before captions were added; `fresh` is the new part by language folder."""

    folder: Path
    fresh: dict[int, int]

    @classmethod
    def open(cls, folder: Path) -> Told | None:
        if not (folder / TOLD).exists():
            return None
        fresh: dict[str, int] = json.loads((folder / FRESH).read_text(encoding="utf-8"))
        return cls(folder / TOLD, {int(number): part for number, part in fresh.items()})

    def of(self, shard: str, images: pa.Table) -> Lists:
        """The lists of those captions of these images (columns image_id, captions) that were told, by caption row."""
        file = self.folder / f"{shard}.parquet"
        if not file.exists():
            return Lists(np.empty(0, np.int64), np.empty(0, np.int64), pa.nulls(0).cast(pa.struct([])))
        old = pq.read_table(file, columns=["image_id", "negatives"])
        places = pc.index_in(images["image_id"].combine_chunks(), value_set=old["image_id"].combine_chunks())
        there = np.flatnonzero(places.is_valid().to_numpy(zero_copy_only=False))
        lists = flat(old, "negatives", places.drop_null().to_numpy().astype(np.int64))
        rows = _caption_rows(images, there)
        return Lists(rows, lists.counts, lists.negatives)


def _caption_rows(images: pa.Table, there: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The rows, among all captions of all images, of the captions of some images."""
    counts = pc.list_value_length(images["captions"]).to_numpy().astype(np.int64)
    ends = np.cumsum(counts)
    return np.concatenate([np.arange(ends[i] - counts[i], ends[i]) for i in there] or [np.empty(0, np.int64)])

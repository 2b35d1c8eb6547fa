"""Captions that come later: a part of their own in the index, and the old captions' lists merged with what it adds.

Only with `idf: frozen`: the old vectors stay as they are, so that what was found between old captions holds. Then

    the best of all captions = the best of (the best of the old ones, the best of the new ones)

for every old caption, and a new caption is searched among all. Words that the last full build did not know count for
nothing, as for TfidfVectorizer.transform.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairloom.store.folder import read_shard
from pairloom.store.linking import link_tree
from stages.contract import Before, Corpus
from stages.gathered import Listed, opened
from stages.negatives.captions import languages, of_language
from stages.negatives.inverted import finish, open_part, open_statistics, read, save
from stages.negatives.lists import Lists, flat
from stages.negatives.near import looks_like, with_looks
from stages.negatives.parts import columns_of, sorted_captions, write_table
from stages.negatives.rule import Config

LANGUAGES, SHARDS, FRESH, EARLIER = "languages.json", "shards.json", "fresh.json", "told"  # names on disk


def looks_file(corpus: Corpus, config: Config, room: Path) -> Path | None:
    """The file of near.LOOKS, if images that look alike count as one."""
    return None if config.near_distance is None else write_table(looks_like(corpus, config, room), room / "looks")


def new_shards(hashes: Mapping[str, str], before: Before) -> list[str]:
    """The shards that came since `before`. None if one of those it had is another now, or gone."""
    known: dict[str, str] = json.loads((before.index / SHARDS).read_text(encoding="utf-8"))
    if any(hashes.get(name) != old for name, old in known.items()):
        return []
    return [name for name in hashes if name not in known]


@dataclass(frozen=True)
class Growth:
    """What came to a corpus, for a worker to index."""

    gathered: Listed  # files of its captions
    looks: Path | None
    hashes: Mapping[str, str]  # of all shards
    config: Config
    folder: Path
    before: Before


def grow(corpus: Corpus, config: Config, folder: Path, before: Before) -> bool:
    """Index what is new beside what was there before. False if that can't be done exactly, and nothing was written."""
    hashes = corpus.hashes("curate")
    new = new_shards(hashes, before)
    if config.idf != "frozen" or not new:
        return False
    with tempfile.TemporaryDirectory(dir=folder) as name:
        room = Path(name)
        files = corpus.gathered({"curate": columns_of(config)}, sorted_captions, config, new)
        gathered, looks = Listed.write(files.values(), room / "files"), looks_file(corpus, config, room)
        grown: list[bool] = corpus.each(
            "adding captions", _grown, [Growth(gathered, looks, hashes, config, folder, before)]
        )
    return grown[0]


def _grown(new: Growth) -> bool:
    captions = pa.concat_tables(opened(path).replace_schema_metadata(None) for path in new.gathered.files())
    captions = captions if new.looks is None else with_looks(captions, opened(new.looks))
    return add(captions, new.hashes, new.config, new.folder, new.before)


def add(captions: pa.Table, hashes: Mapping[str, str], config: Config, folder: Path, before: Before) -> bool:
    """Index the captions of the new shards. False if that can't be done exactly, and nothing was written."""
    langs = languages_in(before.index)
    olds = [sorted((before.index / str(n)).glob("*/"), key=lambda path: int(path.name)) for n in range(len(langs))]
    tables = [[open_part(path).captions.table for path in paths] for paths in olds]
    ids = captions["image_id"].combine_chunks()
    if any(pc.any(pc.is_in(ids, table["image_id"].combine_chunks())).as_py() for own in tables for table in own):
        return False  # an image that was there has more captions now: its part would have to change
    fresh = {}
    for number, lang in enumerate(langs):
        link_tree(before.index / str(number), folder / str(number))
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
    link_tree(before.table, folder / EARLIER)
    note(folder, langs, hashes, fresh)
    return True


def languages_in(folder: Path) -> list[str | None]:
    """The languages of an index, in the order of their folders."""
    found: list[str | None] = json.loads((folder / LANGUAGES).read_text(encoding="utf-8"))
    return found


def note(folder: Path, langs: list[str | None], hashes: Mapping[str, str], fresh: Mapping[str, int]) -> None:
    for name, content in ((LANGUAGES, langs), (SHARDS, hashes), (FRESH, fresh)):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")


@dataclass(frozen=True)
class Earlier:
    """The lists of a run that was finished before captions were added. `fresh` is the new part by language folder.

    After a full build there are none of either.
    """

    folder: Path
    fresh: dict[int, int]

    @classmethod
    def open(cls, folder: Path) -> Earlier:
        fresh: dict[str, int] = json.loads((folder / FRESH).read_text(encoding="utf-8"))
        return cls(folder / EARLIER, {int(number): part for number, part in fresh.items()})

    def of(self, shard: str, images: pa.Table) -> Lists:
        """The earlier lists of the captions of these images (columns image_id, captions), by caption row."""
        file = self.folder / f"{shard}.parquet"
        if not file.exists():
            return Lists.nothing()
        old = read_shard(file, ["image_id", "negatives"])
        places = pc.index_in(images["image_id"].combine_chunks(), value_set=old["image_id"].combine_chunks())
        there = places.is_valid().to_numpy(zero_copy_only=False)
        lists = flat(old, "negatives", places.drop_null().to_numpy().astype(np.int64))
        captions = pc.list_value_length(images["captions"]).to_numpy()
        return Lists(np.flatnonzero(np.repeat(there, captions)), lists.counts, lists.negatives)

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
from stages.negatives.building import FRESH, SHARDS, Job, build, cut_into, languages_in, note, write_languages
from stages.negatives.captions import one_chunk
from stages.negatives.inverted import PART, RANKS, TABLE, open_table, parts_in, save_ranks
from stages.negatives.lists import Lists, flat
from stages.negatives.parts import Part, by_language, columns_of, sorted_captions
from stages.negatives.rule import Config

EARLIER = "told"  # in an index: the lists of the run before


def new_shards(hashes: Mapping[str, str], before: Before) -> list[str]:
    """The shards that came since `before`. None if one of those it had is another now, or gone."""
    known: dict[str, str] = json.loads((before.index / SHARDS).read_text(encoding="utf-8"))
    if any(hashes.get(name) != old for name, old in known.items()):
        return []
    return [name for name in hashes if name not in known]


@dataclass(frozen=True)
class Known:
    """Captions that may be of images which are in an index already."""

    part: Part
    index: Path


def grow(corpus: Corpus, config: Config, folder: Path, before: Before, most: int = PART) -> bool:
    """Index what is new beside what was there before. False if that can't be done exactly, and nothing was written.

    Each language gets new parts of about `most` captions.
    """
    hashes = corpus.hashes("curate")
    new = new_shards(hashes, before)
    if config.idf != "frozen" or not new:
        return False
    with tempfile.TemporaryDirectory(dir=folder) as name:
        room = Path(name)
        files = corpus.gathered({"curate": columns_of(config)}, sorted_captions, config, new)
        counts, langs = by_language(files), languages_in(before.index)
        cut = cut_into(corpus, config, files, counts, room, most)
        known = [Known(part, before.index) for parts in cut.values() for part in parts]
        if any(corpus.each("looking for known images", has_known, known)):
            return False  # an image that was there has more captions now: its part would have to change
        fresh = {str(number): cut[lang] for number, lang in enumerate(langs) if lang in cut}
        others = [lang for lang in cut if lang not in langs]
        added = {str(number): cut[lang] for number, lang in enumerate(others, start=len(langs))}
        first = _add(corpus, config, folder, before, fresh)
        write_languages(corpus, config, added, folder)
    link_tree(before.table, folder / EARLIER)
    note(folder, [*langs, *others], hashes, first)
    return True


def has_known(known: Known) -> bool:
    """Whether an image of the part is in the index, in whatever language."""
    ids = one_chunk(known.part.read()["image_id"])
    tables = (open_table(file)["image_id"] for file in known.index.glob(f"*/*/{TABLE}"))
    return any(pc.any(pc.is_in(table, value_set=ids)).as_py() for table in tables)


def _add(
    corpus: Corpus, config: Config, folder: Path, before: Before, fresh: Mapping[str, list[Part]]
) -> dict[str, int]:
    """Write new parts of languages that were there, after theirs. Returns the number of the first of each language."""
    for old in range(len(languages_in(before.index))):
        link_tree(before.index / str(old), folder / str(old))
    first = {number: len(parts_in(folder / number)) for number in fresh}
    jobs = {
        f"{number}/{place}": Job(part, config, before.index / number)
        for number, parts in fresh.items()
        for place, part in enumerate(parts, start=first[number])
    }
    for place, made in corpus.folders("adding captions", build, jobs).items():
        link_tree(made, folder / place)
    grown = {number: folder / number for number in fresh}
    for number, made in corpus.folders("ranking captions", ranked, grown).items():
        (grown[number] / f"{RANKS}.npy").unlink()  # it is a link to the one before
        link_tree(made, grown[number], exist_ok=True)
    return first


def ranked(language: Path, folder: Path) -> None:
    save_ranks(language, folder)


@dataclass(frozen=True)
class Earlier:
    """The lists of a run that was finished before captions were added. `fresh`: the first new part by language folder.

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

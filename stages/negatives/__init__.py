"""Stage `negatives`: for each caption the most similar captions of other images below a ceiling, exactly.

docs/negatives.md explains the rule. `mine` does it for plain lists of captions, without images or a dataset; nothing
here needs more than numpy, numba and pyarrow.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairloom.table import metadata
from schemas.negatives import NEGATIVE, NEGATIVES
from stages.contract import Before, Corpus, Scope
from stages.negatives import growth
from stages.negatives.captions import Array, captions_of, of_language, with_trained
from stages.negatives.growth import Earlier
from stages.negatives.inverted import Index, open_index
from stages.negatives.lists import Lists, together, union
from stages.negatives.mining import mine_captions
from stages.negatives.near import looks_like
from stages.negatives.rule import Config
from stages.negatives.standalone import mine
from stages.negatives.summary import COUNTED, summarise
from stages.negatives.table import lookup, negatives_at, offsets

INPUTS = ("curate",)
OUTPUT = NEGATIVES
VERSION = 4
COLUMNS = {"curate": ("image_id", "captions")}
SCOPE: Scope = "all"
TAKES = {name: f"shards.{name}" for name in ("seed", "val_share", "split_from")}  # by which images are held out

__all__ = [
    "COLUMNS",
    "INPUTS",
    "OUTPUT",
    "SCOPE",
    "TAKES",
    "VERSION",
    "Config",
    "grow",
    "index",
    "mine",
    "process",
    "setup",
    "summary",
]


@dataclass(frozen=True)
class Tools:
    """The settings, the opened index of each language by folder order, and the lists of an earlier run."""

    config: Config
    indexes: dict[str | None, Index]
    earlier: Earlier


def index(corpus: Corpus, config: Config, folder: Path) -> None:
    """Read all captions once and write, language by language, what `setup` opens.

    Raises InputError if an image is there twice.
    """
    growth.write(_captions(corpus, config), corpus.hashes("curate"), config, folder)


def grow(corpus: Corpus, config: Config, folder: Path, before: Before) -> bool:
    """`index` where a finished run went before and shards were added only; False where that can't be exact."""
    if config.idf != "frozen":
        return False
    hashes = corpus.hashes("curate")
    new = growth.new_shards(hashes, before)
    return bool(new) and growth.add(pa.concat_tables(_captions(corpus, config, new)), hashes, config, folder, before)


def _captions(corpus: Corpus, config: Config, shards: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The captions of each of these shards, of all if None; near duplicates are looked for among all."""
    alike = looks_like(corpus, config)
    split = config.split if config.train_only and config.split.holds_out else None
    columns = tuple(dict.fromkeys((*COLUMNS["curate"], *(split.columns if split else ()))))
    for name, table in corpus.tables("curate", columns, shards):
        table = with_trained(table, split) if split else table
        if alike:
            table = table.append_column("looks_like", alike[name]["looks_like"])
        yield captions_of(table)


def summary(corpus: Corpus) -> dict[str, Any]:
    """How similar the negatives are, how many captions are short, and which negatives come most often."""
    counted = (table for _, table in corpus.tables("negatives", [*COUNTED, "short"]))
    return summarise(
        counted,
        lambda: (table for _, table in corpus.tables("negatives", ["negatives"])),
        lambda: (table for _, table in corpus.tables("negatives", COUNTED)),
    )


def setup(config: Config, folder: Path) -> Tools:
    """Map the indexes that `index` wrote into memory."""
    langs: list[str | None] = json.loads((folder / growth.LANGUAGES).read_text(encoding="utf-8"))
    indexes = {lang: open_index(folder / str(number), config) for number, lang in enumerate(langs)}
    return Tools(config, indexes, Earlier.open(folder))


def process(curate: pa.Table, tools: Tools) -> pa.Table:
    """For each image and each of its captions the hard negatives, best first, and how many are missing to top_k."""
    captions = captions_of(curate)
    lists = together(list(_lists(curate, captions, tools)), len(captions), NEGATIVE)
    short = (tools.config.top_k - pc.list_value_length(lists).to_numpy()).astype(np.uint16)
    of_image = offsets(pc.list_value_length(curate["captions"]).to_numpy())
    return NEGATIVES.table(
        image_id=curate["image_id"],
        negatives=pa.ListArray.from_arrays(of_image, lists),
        short=pa.ListArray.from_arrays(of_image, pa.array(short)),
    )


def _lists(curate: pa.Table, captions: pa.Table, tools: Tools) -> Iterator[Lists]:
    before = tools.earlier.of(metadata(curate).get("shard", ""), curate)
    known = np.zeros(len(captions), np.bool_)
    known[before.rows] = True
    for number, (lang, own) in enumerate(tools.indexes.items()):
        rows = of_language(captions, lang)
        parts, numbers = lookup(own, captions.take(pa.array(rows)))
        for part in np.unique(parts):
            here = parts == part
            new, old = here & ~known[rows], here & known[rows]
            if new.any():
                yield _mined(own, int(part), rows[new], numbers[new], tools.config)
            if old.any():
                lists_before = before.of(np.searchsorted(before.rows, rows[old]))
                yield _grown(own, int(part), lists_before, numbers[old], tools.config, tools.earlier.fresh.get(number))


def _mined(index: Index, part: int, rows: Array, numbers: Array, config: Config) -> Lists:
    """The lists of captions that have none yet."""
    found = mine_captions(index, part, numbers, config)
    return Lists(rows, found.counts, negatives_at(index, found.places, found.similarities))


def _grown(index: Index, part: int, before: Lists, numbers: Array, config: Config, fresh: int | None) -> Lists:
    """Lists of an earlier run with what the part `fresh` adds to them; None: no caption of the language is new."""
    if fresh is None:
        return before
    found = mine_captions(index, part, numbers, config, into=[fresh], known=before.last(config.top_k))
    added = Lists(before.rows, found.counts, negatives_at(index, found.places, found.similarities))
    return union(before, added, config.top_k, config.distinct)

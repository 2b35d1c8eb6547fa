"""Stage `negatives`: for each caption the most similar captions of other images below a ceiling, exactly.

docs/negatives.md explains the rule. `mine` does it for plain lists of captions, without images or a dataset; nothing
here needs more than numpy, numba and pyarrow.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import InputError
from schemas.negatives import NEGATIVE, NEGATIVES
from stages.contract import Corpus
from stages.negatives.captions import Array, captions_of, languages, of_language, positions, table_of
from stages.negatives.inverted import Index, build, open_index, save
from stages.negatives.mining import Found, mine_captions
from stages.negatives.rule import Config

INPUTS = ("curate",)
OUTPUT = NEGATIVES
VERSION = 1
SCOPE = "all"

LANGUAGES = "languages.json"  # the index of the n-th language lies in the folder n

__all__ = ["INPUTS", "OUTPUT", "SCOPE", "VERSION", "Config", "index", "mine", "process", "setup"]


@dataclass(frozen=True)
class Tools:
    """The settings and the opened index of each language."""

    config: Config
    indexes: dict[str | None, Index]


def index(corpus: Corpus, config: Config, folder: Path) -> None:
    """Read all captions once and write, language by language, what `setup` opens.

    Raises InputError if an image is there twice.
    """
    tables = [captions_of(pairs) for _, pairs in corpus.tables("curate", ["image_id", "captions"])]
    captions = pa.concat_tables(tables)
    langs = languages(captions)
    for number, lang in enumerate(langs):
        save(build(captions.take(pa.array(of_language(captions, lang))), config), folder / str(number))
    (folder / LANGUAGES).write_text(json.dumps(langs), encoding="utf-8")


def setup(config: Config, folder: Path) -> Tools:
    """Map the indexes that `index` wrote into memory."""
    langs: list[str | None] = json.loads((folder / LANGUAGES).read_text(encoding="utf-8"))
    return Tools(config, {lang: open_index(folder / str(number)) for number, lang in enumerate(langs)})


def process(curate: pa.Table, tools: Tools) -> pa.Table:
    """For each image and each of its captions the hard negatives, best first, and how many are missing to top_k."""
    captions = captions_of(curate)
    counts, texts = np.zeros(len(captions), np.int64), []
    rows = []
    for lang in languages(captions):
        asked = of_language(captions, lang)
        numbers = lookup(tools.indexes[lang], captions.take(pa.array(asked)))
        found = mine_captions(tools.indexes[lang], numbers, tools.config)
        counts[asked] = found.counts
        rows.append(np.repeat(asked, found.counts))
        texts.append(structs(tools.indexes[lang], found))
    order = np.argsort(np.concatenate(rows), kind="stable") if rows else np.empty(0, np.int64)
    negatives = pa.concat_arrays(texts).take(pa.array(order)) if texts else pa.array([], NEGATIVE)
    of_caption = pa.ListArray.from_arrays(_offsets(counts), negatives)
    of_image = _offsets(pc.list_value_length(curate["captions"]).to_numpy())
    short = pa.array((tools.config.top_k - counts).astype(np.uint16))
    return NEGATIVES.table(
        image_id=curate["image_id"],
        negatives=pa.ListArray.from_arrays(of_image, of_caption),
        short=pa.ListArray.from_arrays(of_image, short),
    )


def mine(
    captions: Sequence[str],
    image_ids: Sequence[str],
    langs: Sequence[str | None] | None = None,
    config: Config | None = None,
    threads: int = 1,
) -> pa.Table:
    """Mine plain lists: caption i belongs to the image image_ids[i] and is in the language langs[i].

    Returns one row a caption, in their order: image_id, caption_index (position among its image's captions),
    negatives (list of image_id, caption_index, text, similarity; best first) and short (missing to top_k).
    """
    config = config or Config()
    _refuse_unequal(captions, image_ids, langs)
    langs = list(langs) if langs is not None else [None] * len(captions)
    ids = pa.array(image_ids, pa.string())
    table = table_of(ids, _caption_indexes(ids), list(captions), langs)
    parts = [_mine_language(table, lang, config, threads) for lang in languages(table)]
    mined = pa.concat_tables([_nothing_mined(), *parts])
    return mined.sort_by("row").drop_columns("row")


def lookup(index: Index, captions: pa.Table) -> Array:
    """The numbers (int64) of captions of one language, given image by image.

    Raises ValueError for a caption that the index does not have: it was made from another corpus.
    """
    wanted, known = _fixed(captions["image_id"]), _fixed(index.captions.table["image_id"])
    changes = np.flatnonzero(wanted[1:] != wanted[:-1]) + 1
    run = np.zeros(len(wanted), np.int64)
    run[changes] = 1
    numbers: Array = np.searchsorted(known, wanted) + positions(np.cumsum(run))
    inside = np.minimum(numbers, max(len(known) - 1, 0))
    indexes = index.captions.table["caption_index"].to_numpy()[inside]
    if not ((known[inside] == wanted) & (indexes == captions["caption_index"].to_numpy())).all():
        raise ValueError("the index of the negatives does not have these captions")
    return numbers


def structs(index: Index, found: Found) -> pa.StructArray:
    """The negatives as Arrow structs, with the ids and texts of their captions."""
    rows = index.captions.table.take(pa.array(found.captions))
    image_ids, indexes, texts = (column.combine_chunks() for column in rows.columns)
    arrays = [image_ids, indexes, texts.cast(pa.string()), pa.array(found.similarities)]
    fields = [NEGATIVE.field(0).with_type(image_ids.type), *list(NEGATIVE)[1:]]
    return pa.StructArray.from_arrays(arrays, fields=fields)


def _fixed(ids: pa.ChunkedArray) -> Array:
    """Ids of 16 bytes as numpy strings, which compare by byte (NULs at the end count as less, as they should)."""
    plain = ids.combine_chunks()
    buffer = plain.buffers()[1]
    start = plain.offset * 16
    return np.frombuffer(buffer, dtype="S16", count=len(plain), offset=start) if len(plain) else np.empty(0, "S16")


def _offsets(counts: Array) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))


def _refuse_unequal(captions: Sequence[str], image_ids: Sequence[str], langs: Sequence[str | None] | None) -> None:
    lengths = [len(captions), len(image_ids), len(captions if langs is None else langs)]
    if len(set(lengths)) > 1:
        raise InputError(
            f"there are {lengths[0]} captions, {lengths[1]} image ids and {lengths[2]} languages",
            where="stages.negatives.mine",
            fix="give one image id, and one language or none at all, for each caption",
        )


def _caption_indexes(ids: pa.Array) -> Array:
    """How many captions of the same image come before each one."""
    numbers = ids.dictionary_encode().indices.to_numpy()
    order = np.argsort(numbers, kind="stable")
    indexes = np.empty(len(numbers), np.int64)
    indexes[order] = positions(numbers[order])
    return indexes


def _mine_language(captions: pa.Table, lang: str | None, config: Config, threads: int) -> pa.Table:
    rows = of_language(captions, lang)
    own = captions.take(pa.array(rows))
    indexed = build(own, config)
    keys = [("image_id", "ascending"), ("caption_index", "ascending")]
    order = pc.sort_indices(own, sort_keys=keys).to_numpy()  # number -> row
    found = mine_captions(indexed, np.arange(len(rows)), config, threads)
    negatives = pa.ListArray.from_arrays(_offsets(found.counts), structs(indexed, found))
    columns = [indexed.captions.table["image_id"], indexed.captions.table["caption_index"], negatives]
    short = pa.array((config.top_k - found.counts).astype(np.uint16))
    return pa.table([*columns, short, pa.array(rows[order])], schema=_nothing_mined().schema)


def _nothing_mined() -> pa.Table:
    negative = pa.struct([NEGATIVE.field(0).with_type(pa.string()), *list(NEGATIVE)[1:]])
    kinds = {"image_id": pa.string(), "caption_index": pa.uint16(), "negatives": pa.list_(negative)}
    return pa.schema([*kinds.items(), ("short", pa.uint16()), ("row", pa.int64())]).empty_table()

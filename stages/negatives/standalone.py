"""Mine plain lists of captions, without images or a dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pairloom.errors import InputError
from stages.gathered import opened
from stages.negatives.beside import Beside
from stages.negatives.captions import in_order, languages, of_language, positions, table_of
from stages.negatives.hubs import Limits, as_table, limits
from stages.negatives.inverted import Index, build
from stages.negatives.kept import Told, mine_kept
from stages.negatives.parts import write_table
from stages.negatives.rule import Config
from stages.negatives.stored import vectors_of
from stages.negatives.table import MOST_TEXT, listed, negative_fields, negatives_at
from stages.negatives.veto import Kept
from stages.negatives.veto_tags import Tags, words_of

SLICE = 1 << 17  # captions whose negatives are in memory at a time
AT_FIRST = 1 << 15  # the same of the first pass of hubs.py, whose lists are longer


def mine(
    captions: Sequence[str],
    image_ids: Sequence[str],
    langs: Sequence[str | None] | None = None,
    config: Config | None = None,
    threads: int = 1,
    beside: Beside | None = None,
) -> pa.Table:
    """Mine plain lists: caption i belongs to the image image_ids[i] and is in the language langs[i].

    Returns one row a caption, in their order: image_id, caption_index (position among its image's captions),
    negatives (list of image_id, caption_index, text, similarity; best first) and short (missing to top_k).
    """
    _refuse_unequal(captions, image_ids, langs)
    try:
        texts, ids = pa.array(captions, pa.large_string()), pa.array(image_ids, pa.string())
    except UnicodeEncodeError as error:
        raise InputError(
            f"a text is not valid Unicode: {error}", "stages.negatives.mine", "clean the captions first (stages.curate)"
        ) from error
    known = pa.array(langs, pa.string()) if langs is not None else pa.nulls(len(ids), pa.string())
    mined = Mined.of_columns(ids, texts, known, config or Config(), beside, threads)
    return pa.concat_tables([nothing(ids.type), *mined.slices(threads)])


def cuts(captions: int, most: int, size: int = SLICE) -> Iterator[slice]:
    """The captions' numbers, `size` at a time, or `most` if that is fewer."""
    size = max(min(size, most), 1)
    return (slice(low, min(low + size, captions)) for low in range(0, captions, size))


def nothing(ids: pa.DataType) -> pa.Table:
    """What `mine` returns for no captions, with image ids of this type."""
    negatives = pa.list_(pa.struct(negative_fields(ids)))
    kinds = {"image_id": ids, "caption_index": pa.uint16(), "negatives": negatives, "short": pa.uint16()}
    return pa.schema(list(kinds.items())).empty_table()


@dataclass(frozen=True)
class Mined:
    """Captions with an index for each language, to be mined slice by slice."""

    captions: pa.Table
    config: Config
    indexes: list[Index]
    of: npt.NDArray[np.int64]  # the index of each caption
    numbers: npt.NDArray[np.int64]  # and its number there
    told: Told = field(default_factory=Told)  # of each caption's image
    limits: list[Limits | None] = field(default_factory=list)  # of each index, where there is a limit of lists

    @classmethod
    def of_columns(
        cls,
        ids: pa.Array,
        texts: pa.Array,
        langs: pa.Array,
        config: Config,
        beside: Beside | None = None,
        threads: int = 1,
    ) -> Mined:
        """ids of any sortable type. All three of one length and, but for langs, without nulls.

        threads: of the first pass of `max_lists`. They change the speed, never the result.
        Raises ConfigError where the settings ask for more than there is.
        """
        beside = beside or Beside()
        beside.refuse_lacking(config)
        table = table_of(ids, caption_indexes(ids), texts, langs)
        if config.val_share:
            trained = [config.split.of(str(one).encode()) == "train" for one in ids.to_pylist()]
            table = table.append_column("trained", pa.array(trained, pa.bool_()))
        of, numbers = np.zeros(len(table), np.int64), np.zeros(len(table), np.int64)
        indexes: list[Index] = []
        for lang in languages(table):
            rows = of_language(table, lang)
            own = table.take(pa.array(rows))
            order = in_order(own.append_column("row", pa.array(rows)))["row"].to_numpy()
            of[rows], numbers[order] = len(indexes), np.arange(len(order))
            index = build(own, config, part=len(own))
            indexes.append(index if beside.texts is None else _with_vectors(index, beside.texts[order]))
        mined = cls(table, config, indexes, of, numbers, _told(ids, beside, config))
        return replace(mined, limits=[mined._limits(number, threads) for number in range(len(indexes))])

    def _limits(self, number: int, threads: int) -> Limits | None:
        """Mine all captions of an index once, for what a limit of lists must know of all."""
        if self.config.max_lists is None:
            return None
        own = self.indexes[number]
        rows = np.flatnonzero(self.of == number)
        with TemporaryDirectory() as room:
            tables = []
            for cut in cuts(len(rows), len(rows), AT_FIRST):
                found = self._kept(number, rows[cut], threads).found
                lists = as_table(number, own.ranks[self.numbers[rows[cut]]], found)
                tables.append(opened(write_table(lists, Path(room) / str(cut.start))))
            return limits(tables, len(rows), self.config.max_lists)

    def _kept(self, number: int, rows: npt.NDArray[np.int64], threads: int) -> Kept:
        """The lists of these rows, which are of this index."""
        last = self.limits[number] if self.limits else None
        return mine_kept(self.indexes[number], 0, self.numbers[rows], self.config, self.told.take(rows), threads, last)

    def cuts(self) -> list[slice]:
        """The captions' numbers, some at a time: so many that the texts of their negatives surely fit one column."""
        longest = pc.max(pc.binary_length(self.captions["text"])).as_py() or 1
        return list(cuts(len(self.captions), MOST_TEXT // (longest * self.config.top_k)))

    def slices(self, threads: int) -> Iterator[pa.Table]:
        """One row a caption, in their order, some captions at a time."""
        return (self.slice(rows, threads) for rows in self.cuts())

    def slice(self, rows: slice, threads: int) -> pa.Table:
        """One row for each of these captions."""
        counts = np.zeros(len(self.of[rows]), np.int64)
        order, negatives = [], []
        for number in np.unique(self.of[rows]):
            asked = np.flatnonzero(self.of[rows] == number)
            found = self._kept(int(number), asked + rows.start, threads).found
            counts[asked] = found.counts
            order.append(np.repeat(asked, found.counts))
            negatives.append(negatives_at(self.indexes[number], found.places, found.similarities))
        together = pa.concat_arrays(negatives).take(pa.array(np.argsort(np.concatenate(order), kind="stable")))
        own = self.captions.slice(rows.start, len(counts)).select(["image_id", "caption_index"])
        short = pa.array((self.config.top_k - counts).astype(np.uint16))
        return own.append_column("negatives", listed(counts, together)).append_column("short", short)


def _with_vectors(index: Index, texts: npt.NDArray[Any]) -> Index:
    (part,) = index.parts
    return replace(index, parts=(replace(part, vectors=vectors_of(texts.astype("<f2").view("<u2"))),))


def _told(ids: pa.Array, beside: Beside, config: Config) -> Told:
    tags = None if beside.tags is None or "tags" not in config.vetoes else _tags(ids, beside.tags, config)
    if beside.pictures is None or "score" not in config.vetoes:
        return Told(tags)
    width = 0 if beside.texts is None else beside.texts.shape[1]
    nothing = np.zeros(width, "<f2")
    pictures = [beside.pictures.get(str(one), nothing).astype("<f2") for one in ids.to_pylist()]
    return Told(tags, np.stack(pictures).view("<u2") if pictures else np.zeros((0, width), "<u2"))


def _tags(ids: pa.Array, tags: Mapping[str, Sequence[str]], config: Config) -> Tags:
    own = pa.array([list(tags.get(str(one), ())) for one in ids.to_pylist()], pa.list_(pa.string()))
    every = pa.array([text for texts in tags.values() for text in texts], pa.string())
    return Tags(own, words_of(every, config))


def caption_indexes(ids: pa.Array) -> npt.NDArray[np.int64]:
    """How many captions of the same image come before each one. Raises InputError if an image has too many."""
    numbers = ids.dictionary_encode().indices.to_numpy()
    order = np.argsort(numbers, kind="stable")
    indexes = np.empty(len(numbers), np.int64)
    indexes[order] = positions(numbers[order])
    if len(indexes) and indexes.max() > np.iinfo(np.uint16).max:
        row = int(indexes.argmax())
        raise InputError(
            f"image {ids[row].as_py()!r} has {indexes[row] + 1} captions, more than 65536",
            where=f"row {row} of {len(ids)}",
            fix="give each image its own image_id",
        )
    return indexes


def _refuse_unequal(captions: Sequence[str], image_ids: Sequence[str], langs: Sequence[str | None] | None) -> None:
    lengths = [len(captions), len(image_ids), len(captions if langs is None else langs)]
    if len(set(lengths)) > 1:
        raise InputError(
            f"there are {lengths[0]} captions, {lengths[1]} image ids and {lengths[2]} languages",
            where="stages.negatives.mine",
            fix="give one image id, and one language or none at all, for each caption",
        )

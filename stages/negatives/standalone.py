"""Mine plain lists of captions, without images or a dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pairloom.errors import InputError
from stages.negatives.captions import in_order, languages, of_language, positions, table_of
from stages.negatives.inverted import Index, build
from stages.negatives.mining import mine_captions
from stages.negatives.rule import Config
from stages.negatives.table import MOST_TEXT, listed, negative_fields, negatives_at

SLICE = 1 << 17  # captions whose negatives are in memory at a time


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
    _refuse_unequal(captions, image_ids, langs)
    try:
        texts, ids = pa.array(captions, pa.large_string()), pa.array(image_ids, pa.string())
    except UnicodeEncodeError as error:
        raise InputError(
            f"a text is not valid Unicode: {error}", "stages.negatives.mine", "clean the captions first (stages.curate)"
        ) from error
    known = pa.array(langs, pa.string()) if langs is not None else pa.nulls(len(ids), pa.string())
    mined = Mined.of_columns(ids, texts, known, config or Config())
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

    @classmethod
    def of_columns(cls, ids: pa.Array, texts: pa.Array, langs: pa.Array, config: Config) -> Mined:
        """ids of any sortable type; all three of one length and, but for langs, without nulls."""
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
            indexes.append(build(own, config, part=len(own)))
        return cls(table, config, indexes, of, numbers)

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
            found = mine_captions(self.indexes[number], 0, self.numbers[rows][asked], self.config, threads)
            counts[asked] = found.counts
            order.append(np.repeat(asked, found.counts))
            negatives.append(negatives_at(self.indexes[number], found.places, found.similarities))
        together = pa.concat_arrays(negatives).take(pa.array(np.argsort(np.concatenate(order), kind="stable")))
        own = self.captions.slice(rows.start, len(counts)).select(["image_id", "caption_index"])
        short = pa.array((self.config.top_k - counts).astype(np.uint16))
        return own.append_column("negatives", listed(counts, together)).append_column("short", short)


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

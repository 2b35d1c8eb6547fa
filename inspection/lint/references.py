"""Lint, part 5: does what one table says of another exist there? Negatives' captions, tags' regions, boxes' images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from inspection.columns import Numbers, flat_list, ids, struct_field
from inspection.dataset import Dataset
from inspection.lint import crops, region_checks, tags
from inspection.lint.problem import Findings
from inspection.lint.sampling import among
from inspection.lint.shard import Shard
from inspection.tables import column_names, names, table_of
from pairloom.store.folder import Folder
from pairloom.table import metadata
from schemas.negatives import NEGATIVE

WORDS = {"negatives": "a negative", "similar": "a similar caption"}  # what one of such a column is called
# (a rule, columns of the table that it holds for, and columns of one of its inputs)
BESIDE: tuple[tuple[Callable[[Shard], None], tuple[str, ...], tuple[str, ...]], ...] = (
    (region_checks.check_boxes_inside, ("num_regions", "boxes"), ("width", "height")),
    (tags.check_tag_regions, ("tags",), ("num_regions", "class_ids", "attribute_ids")),
    (crops.check_patches_inside, ("patch_boxes",), ("width", "height")),
    (crops.check_pyramids_inside, ("pyramid_boxes",), ("width", "height")),
)


@dataclass(frozen=True)
class Captions:
    """Captions of a corpus: image_ids sorted, and for each where its captions start in `texts`, and how many.

    share: of the images, those of the lowest ids. No others are known.
    """

    image_ids: np.ndarray[tuple[int], np.dtype[np.bytes_]]
    starts: Numbers
    counts: Numbers
    texts: pa.Array
    share: float = 1.0

    @classmethod
    def read(cls, folder: Folder, share: float = 1.0) -> Captions:
        """Only the columns image_id and captions are read, one shard at a time. Memory is that of ids and texts."""
        ids_of, lengths = [np.zeros(0, "S16")], [np.zeros(0, np.int64)]
        texts = []
        for _, every in folder.tables(["image_id", "captions"]):
            table = every.filter(pa.array(among(ids(every["image_id"]), share)))
            ids_of.append(ids(table["image_id"]))
            lengths.append(pc.list_value_length(table["captions"]).to_numpy().astype(np.int64))
            texts.append(pc.struct_field(flat_list(table["captions"])[0], "text").cast(pa.large_string()))
        keys, counts = np.concatenate(ids_of), np.concatenate(lengths)
        order = np.argsort(keys, kind="stable")
        starts = np.cumsum(counts) - counts
        return cls(
            keys[order],
            starts[order],
            counts[order],
            pa.chunked_array(texts, pa.large_string()).combine_chunks(),
            share,
        )

    def find(self, wanted: np.ndarray[tuple[int], np.dtype[np.bytes_]]) -> Numbers:
        """The position of each image_id, or -1."""
        if not len(self.image_ids):
            return np.full(len(wanted), -1)
        places = np.minimum(np.searchsorted(self.image_ids, wanted), len(self.image_ids) - 1)
        return np.where(self.image_ids[places] == wanted, places, -1)


def caption_columns(name: str) -> list[str]:
    """The columns of that table which hold captions of other images, a list for each of the image's own captions."""
    kind = pa.list_(pa.list_(NEGATIVE))
    return [column.name for column in (table_of(name).columns if name in names() else ()) if column.type == kind]


def check_told(shard: Shard, name: str, captions: Captions, corpus: str) -> None:
    """Every caption that this column tells of is there, with that text, and each own caption has its list."""
    if shard.table[name].null_count:
        return  # the table was not joined
    _check_lengths(shard, name, captions)
    negatives, rows = flat_list(shard.table[name])
    known_of = among(ids(pc.struct_field(negatives, "image_id")), captions.share)
    negatives, rows = negatives.filter(pa.array(known_of)), rows[known_of]
    word = WORDS.get(name, f"a caption of {name}")
    wanted, indices = (
        ids(pc.struct_field(negatives, "image_id")),
        struct_field(negatives, "caption_index").astype(np.int64),
    )
    places = captions.find(wanted)
    bad = np.flatnonzero(places < 0)
    shard.bad("reference", rows[bad], lambda i: f"{word} is of image {_hex(wanted[bad[i]])}, which is not in {corpus}")
    there = np.flatnonzero(places >= 0)
    beyond = there[indices[there] >= captions.counts[places[there]]]
    shard.bad(
        "reference",
        rows[beyond],
        lambda i: (
            f"{word} is caption {indices[beyond[i]]} of image {_hex(wanted[beyond[i]])}, which has only "
            f"{captions.counts[places[beyond[i]]]}"
        ),
    )
    known = there[indices[there] < captions.counts[places[there]]]
    theirs = captions.texts.take(pa.array(captions.starts[places[known]] + indices[known]))
    ours = pc.struct_field(negatives, "text").take(pa.array(known)).cast(pa.large_string())
    other = known[pc.not_equal(ours, theirs).to_numpy(zero_copy_only=False)]
    texts = pc.struct_field(negatives, "text")
    shard.bad(
        "reference",
        rows[other],
        lambda i: f"{word}'s text {texts[int(other[i])].as_py()[:60]!r} is not that of the caption it names",
    )


def _check_lengths(shard: Shard, name: str, captions: Captions) -> None:
    places = captions.find(ids(shard.table["image_id"]))
    lengths = pc.list_value_length(shard.table[name]).to_numpy()
    wanted = np.where(places < 0, lengths, np.concatenate([captions.counts, [0]])[places])
    bad = np.flatnonzero(lengths != wanted)
    shard.bad("length", bad, lambda i: f"{name} has {lengths[bad[i]]} lists, the image has {wanted[bad[i]]} captions")


def _hex(image_id: bytes) -> str:
    return image_id.ljust(16, b"\0").hex()  # numpy drops a value's last zero bytes


def check_beside(found: Dataset, sound: set[Path], findings: Findings) -> None:
    """What a table says of columns of its inputs: boxes lie in their image, tags name regions that are there."""
    for stage, folder in found.tables.items():
        for check, own, others in () if found.flow.recut(stage) else BESIDE:
            inputs = [found.tables[name] for name in found.flow.inputs(stage) if name in found.tables]
            source = next((table for table in inputs if {*others, "image_id"} <= set(column_names(table.table))), None)
            if source is not None and {*own, "image_id"} <= set(column_names(folder.table)):
                for shard in _joined(source, folder, (others, own), sound, findings):
                    check(shard)


def _joined(
    left: Folder,
    right: Folder,
    columns: tuple[tuple[str, ...], tuple[str, ...]],
    sound: set[Path],
    findings: Findings,
) -> Iterator[Shard]:
    """The second table's shards with columns of the first table's rows of the same images beside their own."""
    there = {entry.name for entry in left.shards}
    for entry in right.shards:
        if entry.name in there and {left.file(entry.name), right.file(entry.name)} <= sound:
            table = right.read(entry.name, ["image_id", *columns[1]])
            other = left.read(entry.name, ["image_id", *columns[0]])
            joined = _beside(table, other)
            if joined is not None:
                yield Shard(right.file(entry.name), joined, metadata(other) | metadata(table), findings)


def _beside(table: pa.Table, other: pa.Table) -> pa.Table | None:
    """`table` with the other columns of the same image. None where one is missing, which alignment reports."""
    place = {key: row for row, key in enumerate(other["image_id"].to_pylist())}
    rows = [place.get(key) for key in table["image_id"].to_pylist()]
    if None in rows:
        return None
    beside = other.drop_columns(["image_id"]).take(pa.array(rows, pa.int64()))
    for name in beside.column_names:
        table = table.append_column(name, beside[name])
    return table

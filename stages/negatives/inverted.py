"""The index of one language: captions, vectors and postings in parts, in memory or as memory-mapped files.

A part is a range of captions that is searched by itself. What is found in several is merged, exactly. There is more
than one where the index would be too large for a worker's memory, and where captions came later.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stages.negatives import vectors
from stages.negatives.captions import ORDER, Captions, arrange, in_order
from stages.negatives.matching import text_hashes
from stages.negatives.nearest import Vectors
from stages.negatives.postings import BLOCK, Postings, invert
from stages.negatives.rule import Config
from stages.negatives.tokens import Tokens, tokenise
from stages.negatives.vectors import Statistics, Tally, measure, tally, vectorise

Array = npt.NDArray[Any]
Cut = Callable[[pa.Array, Config], Tokens]
PART = 1 << 22  # captions: about 1.5 GB
TABLE, NAMES, TOTALS, RANKS = "captions.arrow", "terms.arrow", "totals.json", "ranks"


@dataclass(frozen=True)
class Part:
    """Captions that are searched together."""

    captions: Captions
    postings: Postings
    query_weights: Array  # float64 (P,), beside the postings' weights
    hashes: Array  # uint64 (D,), ascending: of the normalised texts
    by_hash: Array  # int32 (D,): the document of each
    vectors: Vectors | None = None  # of the captions, as stage `score` stored them, where the rule asks for them

    @cached_property
    def hash_of(self) -> Array:
        """uint64 (D,): of the normalised text of each document."""
        hashes = np.empty(len(self.hashes), np.uint64)
        hashes[self.by_hash] = self.hashes
        return hashes


@dataclass(frozen=True)
class Index:
    """All that is needed to mine one language. A caption's place is its number, counted through all parts."""

    parts: tuple[Part, ...]
    statistics: Statistics
    scales: Array  # float64 (2, V), of vectors.scales
    ranks: Array  # int64 (captions,): of each place in the order of image_id and caption_index

    @property
    def bases(self) -> list[int]:
        """The place of each part's first caption."""
        sizes = [len(part.captions.images) for part in self.parts]
        return [sum(sizes[:number]) for number in range(len(sizes))]

    def split(self, places: Array) -> Iterator[tuple[Part, Array, Array]]:
        """(part, which of the places are in it, the captions' numbers there)."""
        parts = np.searchsorted(np.array(self.bases), places, side="right") - 1
        for number, (base, part) in enumerate(zip(self.bases, self.parts, strict=True)):
            here = np.flatnonzero(parts == number)
            yield part, here, places[here] - base

    def text_hashes(self, places: Array) -> Array:
        """uint64, of the normalised texts of the captions at these places."""
        hashes = np.empty(len(places), np.uint64)
        for part, here, numbers in self.split(places):
            hashes[here] = part.hash_of[part.captions.documents[numbers]]
        return hashes


def build(captions: pa.Table, config: Config, part: int = PART, block: int = BLOCK, cut: Cut = tokenise) -> Index:
    """Index these captions, all of one language, in memory. Part (captions) and block (documents) change no result."""
    ready = read(captions, config, part, cut=cut)
    return assemble(tuple(finish(ready, config, block)), ready.statistics, config)


@dataclass(frozen=True)
class Ready:
    """Captions that were read and counted, not yet weighed."""

    arranged: list[tuple[Captions, pa.Array]]
    tokens: list[Tokens]
    statistics: Statistics


def read(
    captions: pa.Table, config: Config, part: int = PART, known: Statistics | None = None, cut: Cut = tokenise
) -> Ready:
    """Sort, cut and count; known: statistics to weigh by instead of those of these captions; cut: texts into terms."""
    ordered = in_order(captions)
    arranged = [arrange(piece) for piece in _pieces(ordered, part)]
    tokens = [cut(texts, config) for _, texts in arranged]
    if known is None:
        tallies: list[Tally] = [tally(terms, own.copies) for terms, (own, _) in zip(tokens, arranged, strict=True)]
        known = measure(tallies, config)
    return Ready(arranged, tokens, known)


def count(captions: pa.Table, config: Config, cut: Cut = tokenise) -> Tally:
    """The terms of these captions, of one part among several."""
    own, texts = arrange(in_order(captions))
    return tally(cut(texts, config), own.copies)


def _pieces(ordered: pa.Table, most: int) -> Iterator[pa.Table]:
    """Slices of about `most` captions. An image's captions stay together."""
    ids, low = ordered["image_id"], 0
    while low < len(ordered) or low == 0:
        high = min(low + most, len(ordered))
        while 0 < high < len(ordered) and ids[high] == ids[high - 1]:
            high += 1
        yield ordered.slice(low, high - low)
        if high == len(ordered):
            return
        low = high


def finish(ready: Ready, config: Config, block: int = BLOCK) -> Iterator[Part]:
    """Each part with its vectors and postings."""
    scale, usual = vectors.scales(ready.statistics, config)
    for (captions, texts), tokens in zip(ready.arranged, ready.tokens, strict=True):
        weighed = vectorise(tokens, ready.statistics, config)
        postings = invert(weighed.starts, weighed.terms, weighed.weights, scale, usual, block)
        queries = postings.weights if weighed.query_weights is weighed.weights else weighed.query_weights
        hashes = text_hashes(texts)
        order = np.argsort(hashes, kind="stable").astype(np.int32)
        yield _frozen(Part(captions, postings, queries, hashes[order], order))


def assemble(parts: tuple[Part, ...], statistics: Statistics, config: Config, ranks: Array | None = None) -> Index:
    if ranks is None:
        ranks = rank([part.captions.table for part in parts])
    return Index(parts, statistics, vectors.scales(statistics, config), ranks)


def rank(tables: list[pa.Table]) -> Array:
    """Where each caption of these tables comes in the order of image_id and caption_index."""
    if in_ranges(tables):
        return np.arange(sum(map(len, tables)))
    together = pa.concat_tables([table.select(["image_id", "caption_index"]) for table in tables])
    order = pc.sort_indices(together, sort_keys=ORDER).to_numpy()
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    return ranks


def in_ranges(tables: list[pa.Table]) -> bool:
    """Whether each has only ids above those of the one before, as a full build cuts them."""
    ends = [(table["image_id"][0].as_py(), table["image_id"][-1].as_py()) for table in tables if len(table)]
    return all(before[1] < after[0] for before, after in pairwise(ends))


def _frozen(part: Part) -> Part:
    """With arrays that cannot be written, as they are when memory-mapped: the kernel is compiled for one kind only."""
    for array in arrays_of(part).values():
        array.flags.writeable = False
    return part


def arrays_of(part: Part) -> dict[str, Array]:
    """Every array of the part under the name of its file."""
    captions = {field.name: getattr(part.captions, field.name) for field in fields(Captions)[1:]}
    postings = {f"postings-{name}": value for name, value in part.postings._asdict().items()}
    own = {"hashes": part.hashes, "by_hash": part.by_hash}
    if part.query_weights is not part.postings.weights:
        own["query_weights"] = part.query_weights
    return captions | postings | own


def save_part(part: Part, folder: Path) -> None:
    """Write the part as one .npy file an array and one Arrow file for the texts."""
    folder.mkdir(parents=True, exist_ok=True)
    _save_table(part.captions.table, folder / TABLE)
    for name, array in arrays_of(part).items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)


def open_part(folder: Path) -> Part:
    """Map the files of `save_part` into memory: processes of one machine share them, and only what is used is read."""
    captions = [mapped(folder, field.name) for field in fields(Captions)[1:]]
    postings = Postings(*(mapped(folder, f"postings-{name}") for name in Postings._fields))
    separate = (folder / "query_weights.npy").exists()
    queries = mapped(folder, "query_weights") if separate else postings.weights
    table = open_table(folder / TABLE)
    has_vectors = (folder / f"{Vectors._fields[0]}.npy").exists()
    stored = Vectors(*(mapped(folder, name) for name in Vectors._fields)) if has_vectors else None
    return Part(
        Captions(table, *captions), postings, queries, mapped(folder, "hashes"), mapped(folder, "by_hash"), stored
    )


def save(folder: Path, statistics: Statistics, parts: Iterator[Part]) -> None:
    """Write statistics and parts."""
    save_statistics(statistics, folder)
    for number, part in enumerate(parts):
        save_part(part, folder / str(number))
    save_ranks(folder, folder)


def save_ranks(index: Path, folder: Path) -> None:
    """Write where the captions of all parts of the index come in their order; folder: where to."""
    tables = [open_table(index / str(number) / TABLE) for number in parts_in(index)]
    file = folder / f"{RANKS}.npy"
    if not in_ranges(tables):
        np.save(file, rank(tables))
        return
    ranks = np.lib.format.open_memmap(file, "w+", np.int64, (sum(map(len, tables)),))
    for low in range(0, len(ranks), PART):  # 8 bytes a caption of the whole corpus
        ranks[low : low + PART] = np.arange(low, min(low + PART, len(ranks)))


def parts_in(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.iterdir() if path.is_dir())


def open_index(folder: Path, config: Config) -> Index:
    """Map what `save` wrote into memory."""
    parts = tuple(open_part(folder / str(number)) for number in parts_in(folder))
    return assemble(parts, open_statistics(folder), config, mapped(folder, RANKS))


def save_statistics(statistics: Statistics, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _save_table(pa.table({"name": statistics.names, "captions": statistics.captions}), folder / NAMES)
    totals = {"captions": statistics.total, "terms": statistics.length}
    (folder / TOTALS).write_text(json.dumps(totals), encoding="utf-8")


def open_statistics(folder: Path) -> Statistics:
    table, totals = open_table(folder / NAMES), json.loads((folder / TOTALS).read_text(encoding="utf-8"))
    names = table["name"].combine_chunks()
    return Statistics(names, table["captions"].to_numpy(), totals["captions"], totals["terms"])


def _save_table(table: pa.Table, file: Path) -> None:
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())


def open_table(file: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(file))).read_all()


def mapped(folder: Path, name: str) -> Array:
    """An array that numpy saved, mapped into memory to be read alone."""
    file = folder / f"{name}.npy"
    if file.stat().st_size <= 4096:  # an empty array cannot be mapped, a small one need not be
        small: Array = np.load(file, allow_pickle=False)
        small.flags.writeable = False
        return small
    return np.asarray(np.load(file, mmap_mode="r", allow_pickle=False))  # the kernel knows no memmap

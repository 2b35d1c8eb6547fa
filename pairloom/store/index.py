"""The index of each training shard: which captions its rows have, and where their large values lie in the file.

`_pairloom/.train-00000.index` is an Arrow IPC file, opened by mapping it into memory, so that a loader knows the order
of a million rows without reading one of them. It is derived from the shard and can be made again (`pairloom shards
index`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from pairloom.errors import StoreError
from pairloom.machine import refuse_machine_error
from pairloom.store.folder import ASIDE, rebuild
from pairloom.store.hashed import sha256_file
from pairloom.store.pages import values
from pairloom.store.sums import chunk_sums, footer_sum
from pairloom.table import Array

SUFFIX = ".index"
VERSION = 1
HEAVY = ("image", "features")  # what is read by position. All else of a row is a few kilobytes
BLOCK = 32 << 10  # bytes that one checksum covers, so that a prefix of a value can be verified without the rest
UNKNOWN = -1  # the language of a caption without a code


@dataclass(frozen=True)
class Places:
    """Where the values of one column lie: row i is `sizes[i]` bytes at `at[i]`, its checksums from `first[i]` on."""

    at: Array  # uint64
    sizes: Array  # uint64
    first: Array  # int32, one more than rows
    sums: Array  # uint64, XXH3 of each block

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """The bytes of the file that hold rows start to stop, one at least."""
        return int(self.at[start:stop].min()), int((self.at + self.sizes)[start:stop].max())


@dataclass(frozen=True)
class Index:
    """One shard's index. Captions of row i are codes[first_caption[i] : first_caption[i + 1]]."""

    table: pa.Table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads(self.table.schema.metadata[b"pairloom-index"])
        return facts

    @cached_property
    def row_groups(self) -> Array:
        """Of each row, int32."""
        groups: Array = self.table["row_group"].to_numpy()
        return groups

    @cached_property
    def captions(self) -> tuple[Array, Array]:
        """(first caption of each row and one more, language code of each caption: a place in facts.languages)."""
        return _flat(self.table["captions"])

    def places(self, column: str) -> Places:
        """Raises StoreError if the shard has no such column."""
        if f"{column}_at" not in self.table.column_names:
            raise StoreError(f"the shard has no {column}", self.facts["shard"], "take a recipe that needs none")
        first, sums = _flat(self.table[f"{column}_sums"])
        return Places(self.table[f"{column}_at"].to_numpy(), self.table[f"{column}_bytes"].to_numpy(), first, sums)


def _flat(column: pa.ChunkedArray) -> tuple[Array, Array]:
    if not len(column):
        return np.zeros(1, np.int32), np.zeros(0, column.type.value_type.to_pandas_dtype())
    whole = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return whole.offsets.to_numpy(), whole.values.to_numpy()


def name_of(shard: str) -> str:
    """The index of a shard of this name, in its folder. The dot keeps datasets from reading it as the split train."""
    return f"{ASIDE}/{file_name(shard)}"


def file_name(shard: str) -> str:
    return f".{shard}{SUFFIX}"


def path_of(shard: Path) -> Path:
    """Where the index of this file lies, if it has one. Pairloom 0.1.0 wrote it beside the shard."""
    now, before = shard.parent / name_of(shard.stem), shard.with_suffix(SUFFIX)
    return before if before.exists() and not now.exists() else now


def block_sums(value: memoryview) -> list[int]:
    """XXH3 (64 bits) of each block of a value."""
    return [xxhash.xxh3_64_intdigest(value[start : start + BLOCK]) for start in range(0, len(value), BLOCK)]


def build(path: Path, sha256: str, compared: bool = False) -> Index:
    """Read a whole shard and index it, if its SHA-256 is this one, as the manifest says.

    compared: whether the file's SHA-256 was taken or compared just before. Raises StoreError if the shard is missing,
    has other bytes, or stores its large values in a way that cannot be read by position.
    """
    if not compared:
        refuse_other_bytes(path, sha256)
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        metadata, names = file.metadata, file.schema_arrow.names
        langs = file.read(columns=["captions.list.element.lang"])["captions"] if "captions" in names else None
    counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    columns: dict[str, Any] = {"row_group": pa.array(np.repeat(np.arange(len(counts), dtype=np.int32), counts))}
    columns["captions"], languages = _languages(langs, sum(counts))
    for column in HEAVY:
        if column in names:
            columns |= _positions(path, column, metadata)
    facts = {"version": VERSION, "shard": path.name, "sha256": sha256, "languages": languages, "columns": names}
    with path.open("rb") as stream:
        facts |= {"footer": footer_sum(stream), "chunks": chunk_sums(stream, metadata, HEAVY)}
    facts["content"] = _content_sum(pa.table(columns))
    facts["facts"] = _facts_sum(facts)
    return Index(pa.table(columns).replace_schema_metadata({"pairloom-index": json.dumps(facts, sort_keys=True)}))


def refuse_other_bytes(path: Path, sha256: str) -> None:
    """Raise StoreError where a shard is missing or has another SHA-256.

    What is wrong in a file must not become what its index calls right, nor what a bucket has.
    """
    try:
        found = sha256_file(path)
    except FileNotFoundError as error:
        raise StoreError("the shard is missing", str(path), rebuild(path)) from error
    if found != sha256:
        what = f"the shard is damaged: its SHA-256 is {found[:12]}…, the manifest says {sha256[:12]}…"
        raise StoreError(what, str(path), rebuild(path))


def _schema(columns: Sequence[str]) -> pa.Schema:
    """Of the index of a shard with these columns."""
    heavy = {"at": pa.uint64(), "bytes": pa.uint64(), "sums": pa.list_(pa.uint64())}
    places = {f"{column}_{key}": kind for column in HEAVY if column in columns for key, kind in heavy.items()}
    return pa.schema({"row_group": pa.int32(), "captions": pa.list_(pa.int16()), **places})


def _facts_sum(facts: dict[str, Any]) -> str:
    """XXH3 of all other facts."""
    others = {name: value for name, value in facts.items() if name != "facts"}
    return xxhash.xxh3_64_hexdigest(json.dumps(others, sort_keys=True).encode())


def _content_sum(table: pa.Table) -> str:
    """XXH3 of all numbers of the index, so that a damaged one is noticed and made again."""
    digest = xxhash.xxh3_64()
    for column in table.columns:
        for numbers in _flat(column) if pa.types.is_list(column.type) else (column.to_numpy(),):
            digest.update(np.ascontiguousarray(numbers).data)
    return digest.hexdigest()


def _languages(captions: pa.ChunkedArray | None, rows: int) -> tuple[pa.Array, list[str]]:
    """(list of codes a row, the languages that the codes number)."""
    if captions is None or not rows:
        return pa.array([[]] * rows, pa.list_(pa.int16())), []
    whole = captions.combine_chunks()
    lang = whole.flatten().field("lang")
    names = sorted(name for name in lang.unique().to_pylist() if name is not None)
    numbers = {name: number for number, name in enumerate(names)}
    codes = np.array([numbers.get(name, UNKNOWN) for name in lang.to_pylist()], np.int16)
    offsets = whole.offsets.to_numpy()
    return pa.ListArray.from_arrays(pa.array(offsets - offsets[0], pa.int32()), pa.array(codes, pa.int16())), names


def _positions(path: Path, column: str, metadata: pq.FileMetaData) -> dict[str, pa.Array]:
    at, sizes, sums = [], [], []
    for place, value in _values(path, column, metadata):
        at.append(place)
        sizes.append(len(value))
        sums.append(block_sums(value))
    return {
        f"{column}_at": pa.array(at, pa.uint64()),
        f"{column}_bytes": pa.array(sizes, pa.uint64()),
        f"{column}_sums": pa.array(sums, pa.list_(pa.uint64())),
    }


def _values(path: Path, column: str, metadata: pq.FileMetaData) -> Iterator[tuple[int, memoryview]]:
    for group in range(metadata.num_row_groups):
        yield from values(path, column, group, metadata)


def write(index: Index, sink: Any) -> None:
    with pa.ipc.new_file(sink, index.table.schema) as writer:
        writer.write_table(index.table.combine_chunks())


def read(path: Path, sha256: str) -> Index | None:
    """The index at `path`, mapped into memory. None if there is none or it describes other bytes."""
    try:
        index = Index(pa.ipc.open_file(pa.memory_map(str(path))).read_all())
        index.table.validate()  # or flipped lengths would be read beyond the file's end
        current = index.table.schema.equals(_schema(index.facts["columns"]))  # names have no checksum
        current = current and (index.facts["version"], index.facts["sha256"]) == (VERSION, sha256)
        current = current and index.facts["facts"] == _facts_sum(index.facts)
        current = current and index.facts["content"] == _content_sum(index.table)
    except FileNotFoundError:
        return None
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        refuse_machine_error(error, str(path))
        return None  # cut short or damaged: it is made again from the shard, which is verified
    return index if current else None


def wanted(index: Index, languages: Sequence[str]) -> Array:
    """bool of each caption: in one of these languages, or of no known one. No languages means all."""
    codes = index.captions[1]
    if not languages:
        return np.ones(len(codes), bool)
    known = [UNKNOWN, *(number for number, name in enumerate(index.facts["languages"]) if name in languages)]
    return np.isin(codes, known)

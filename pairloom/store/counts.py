"""How many captions and images each row group of a folder's shards has, by language: one small file for all indices.

`_pairloom/.counts` is made of the indices when a folder is finished, so that a loader knows the order of a hundred
thousand shards without opening one. It names the shards that it counts, is held to a checksum, and can be made again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from pairloom.store import index as indices
from pairloom.store.folder import ASIDE, Entry, origin_of
from pairloom.store.names import by_number
from pairloom.table import Array

NAME = f"{ASIDE}/.counts"
VERSION = 1
FACTS = b"pairloom-counts"
SUM = 16  # hex digits of XXH3, before the content
Record = tuple[int, str, int]  # row group, key, count


@dataclass(frozen=True)
class Counts:
    """Of each row group and language, the captions in it; of each set of languages, the images with just these.

    A key is JSON: "en" of captions, ["de", "en"] of images. Null is a language that is not known.
    """

    shards: Array  # uint64, `_identity` of each, in the folder's order
    shard: Array  # int32, of each record: a place in shards
    group: Array  # int32
    key: Array  # int32, a place in keys
    count: Array  # int64
    keys: tuple[str, ...]

    @cached_property
    def places(self) -> dict[int, int]:
        return {shard: place for place, shard in enumerate(self.shards.tolist())}

    def of(self, chosen: Sequence[Entry], languages: Sequence[str]) -> Array | None:
        """(3, row groups) int64: shard, (image, caption) rows and images of each, in these languages or no known one.

        No languages means all. None where some of these shards are not counted.
        """
        found = [self.places.get(identity, -1) for identity in _identities(chosen).tolist()]
        if -1 in found:
            return None
        numbers = np.full(len(self.shards), -1, np.int64)
        numbers[found] = np.arange(len(chosen))
        mine = np.flatnonzero(numbers[self.shard] >= 0)
        mine = mine[np.lexsort((self.group[mine], numbers[self.shard[mine]]))]
        shard, group, key, count = numbers[self.shard[mine]], self.group[mine], self.key[mine], self.count[mine]
        new = (np.diff(shard, prepend=-1) != 0) | (np.diff(group, prepend=-1) != 0)
        slot = np.cumsum(new) - 1
        counted = [np.bincount(slot, count * wanted[key], int(new.sum())) for wanted in self._wanted(languages)]
        return np.stack([shard[new], *counted]).astype("<i8")

    def _wanted(self, languages: Sequence[str]) -> tuple[Array, Array]:
        """Of each key, whether it is captions, and whether it is images, in these languages."""
        keys, asked = [json.loads(key) for key in self.keys], {None, *languages}
        rows = [not isinstance(key, list) and (not languages or key in asked) for key in keys]
        images = [isinstance(key, list) and bool(key if not languages else asked.intersection(key)) for key in keys]
        return np.array(rows, np.int64), np.array(images, np.int64)

    def records(self) -> dict[int, list[Record]]:
        """By the identity of each shard."""
        edges = np.searchsorted(self.shard, np.arange(len(self.shards) + 1)).tolist()
        columns = (self.group.tolist(), [self.keys[key] for key in self.key.tolist()], self.count.tolist())
        rows: list[Record] = list(zip(*columns, strict=True))
        spans = zip(self.shards.tolist(), pairwise(edges), strict=True)
        return {shard: rows[start:stop] for shard, (start, stop) in spans}


def made(folder: Path, entries: Sequence[Entry]) -> bytes | None:
    """The file's content for these shards, each of which has an index. None where it is there, or one has no index.

    Of shards that the last one counts, no index is read.
    """
    entries = sorted(entries, key=lambda entry: by_number(entry.name))
    before, identities = read(folder), _identities(entries)
    if before is not None and np.array_equal(before.shards, identities):
        return None
    known = {} if before is None else before.records()
    records = []
    for entry, identity in zip(entries, identities.tolist(), strict=True):
        if identity not in known:
            path = folder / indices.name_of(entry.name)
            if not path.exists() and (origin := origin_of(folder)) is not None:
                origin.bring(indices.name_of(entry.name), path)
            index = indices.read(path, entry.sha256)
            if index is None:
                return None
            known[identity] = counted(index)
        records.append(known[identity])
    return _packed(identities, records)


def counted(index: indices.Index) -> list[Record]:
    """The records of one shard."""
    first, codes = index.captions
    groups = index.row_groups
    names = [*index.facts["languages"], None]  # UNKNOWN is -1
    bits = np.zeros(len(groups), object if len(names) > 63 else np.int64)  # Python's whole numbers have no end
    owners = np.repeat(np.arange(len(groups)), np.diff(first))
    languages = codes % len(names)
    np.bitwise_or.at(bits, owners, _bit(languages, bits.dtype))
    masks, sets = np.unique(bits, return_inverse=True)
    texts = [json.dumps([name for n, name in enumerate(names) if mask >> n & 1]) for mask in masks.tolist()]
    return _tally(groups[owners], languages, list(map(json.dumps, names))) + _tally(groups, sets, texts)


def _bit(numbers: Array, kind: Any) -> Array:
    one: Array = np.array(1, kind) << numbers.astype(kind)
    return one


def _tally(groups: Array, keys: Array, texts: Sequence[str]) -> list[Record]:
    """How many of each group have each key. keys: places in `texts`."""
    pairs, counts = np.unique(groups.astype(np.int64) * max(len(texts), 1) + keys, return_counts=True)
    found = zip(*(each.tolist() for each in np.divmod(pairs, max(len(texts), 1))), counts.tolist(), strict=True)
    return sorted((group, texts[key], count) for group, key, count in found)


def _packed(identities: Array, records: Sequence[Sequence[Record]]) -> bytes:
    flat = [(shard, *record) for shard, own in enumerate(records) for record in own]
    keys = sorted({key for _, _, key, _ in flat})
    numbers = {key: number for number, key in enumerate(keys)}
    table = pa.table(
        {
            "shard": pa.array([record[0] for record in flat], pa.int32()),
            "group": pa.array([record[1] for record in flat], pa.int32()),
            "key": pa.array([numbers[record[2]] for record in flat], pa.int32()),
            "count": pa.array([record[3] for record in flat], pa.int64()),
        }
    )
    facts = {"version": VERSION, "keys": keys, "shards": identities.tobytes().hex()}
    table = table.replace_schema_metadata({FACTS: json.dumps(facts)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return xxhash.xxh3_64_hexdigest(content).encode() + content


def read(folder: Path) -> Counts | None:
    """Of a folder. None where there are none, or they are damaged."""
    try:
        return parsed((folder / NAME).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None


def parsed(content: bytes) -> Counts | None:
    """None where it is not what was written, or of another version."""
    if content[:SUM] != xxhash.xxh3_64_hexdigest(content[SUM:]).encode():
        return None
    table = pa.ipc.open_file(content[SUM:]).read_all()
    facts = json.loads(table.schema.metadata[FACTS])
    if facts["version"] != VERSION:
        return None
    shard, group, key, count = (table[name].to_numpy() for name in ("shard", "group", "key", "count"))
    shards = np.frombuffer(bytes.fromhex(facts["shards"]), "<u8")
    return Counts(shards, shard, group, key, count, tuple(facts["keys"]))


def _identities(entries: Sequence[Entry]) -> Array:
    found = [xxhash.xxh3_64_intdigest(f"{entry.name} {entry.sha256}".encode()) for entry in entries]
    return np.array(found, "<u8")

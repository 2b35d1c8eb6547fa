"""UNITER's LMDB (ChenRocks/UNITER, scripts/convert_imgdir.py and data/data.py): an entry a picture, KEY.npz.

Values are msgpack with msgpack-numpy's arrays, or npz files in a database whose folder ends in `_compressed`.
The module formats/features/uniter.py says what they hold. `__keys__` is a JSON list of all keys. Beside the database
`feat_th0.2_max100_min10` lies `nbb_th0.2_max100_min10.json`: how many regions its reader takes of each picture.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from formats.features import arrays, packed, uniter
from formats.features.databases import Database, absent, entries, found, value_of
from formats.features.record import Bad, Record, Vocabularies, bad_of

NEEDS = ("class_scores",)
STORED = "<f2"
KEYS = b"__keys__"
ENDING = ".npz"
NAME = f"th{uniter.THRESHOLD}_max{uniter.MOST}_min{uniter.LEAST}"


def read(path: Path, floats: str = "") -> Iterator[Record | Bad]:
    """The entries of a database, or of all below a folder. floats is not needed: each array says its own."""
    for database in found(path):
        for name, value in entries(database, KEYS):
            key = name.decode("utf-8", errors="backslashreplace").removesuffix(ENDING)
            try:
                yield uniter.record_of(_arrays(value), key)
            except arrays.DAMAGE as error:
                yield bad_of(error, key, str(database))
        for name in absent(database, _listed(database)):
            key = name.decode().removesuffix(ENDING)
            yield Bad(key, str(database), "no-features", "the database's list of keys has it, the database has not")


def _arrays(value: memoryview) -> Mapping[str, Any]:
    """The arrays of an entry. An npz is a zip file, which begins with PK."""
    if bytes(value[:2]) == b"PK":
        return arrays.read_npz(io.BytesIO(value))
    content: Mapping[str, Any] = packed.loads(value)
    return content


def _listed(database: Path) -> Iterator[bytes]:
    """The keys that should be there: of the database's own list, and of the numbers of regions beside it."""
    keys = json.loads(value_of(database, KEYS) or b"[]")
    name = database.name.removesuffix("_compressed").replace("feat_", "nbb_", 1)
    beside = database.with_name(f"{name}.json")
    if name.startswith("nbb_") and beside.exists():
        keys = dict.fromkeys([*keys, *json.loads(beside.read_text(encoding="utf-8"))])
    return (key.encode() for key in keys)


def entry(record: Record, words: Vocabularies, compressed: bool = False) -> tuple[str, bytes, bytes]:
    """(key, value, how many regions UNITER reads) of a picture."""
    content = uniter.arrays_of(record)
    value = arrays.npz_bytes(content, True) if compressed else packed.dumps(content)
    return record.key + ENDING, value, b"%d" % min(uniter.regions_read(content["conf"]), len(record.boxes))


class Writer:
    """FOLDER/feat_th0.2_max100_min10 and FOLDER/nbb_….json. All regions are stored. UNITER reads the first nbb."""

    COMPRESSED = False

    def __init__(self, folder: Path, words: Vocabularies, state: Mapping[str, Any]) -> None:
        self._folder = folder
        self._database = Database(folder / f"feat_{NAME}{'_compressed' * self.COMPRESSED}", state)

    def add(self, entry: tuple[str, bytes, bytes]) -> None:
        self._database.put(*entry)

    def flush(self) -> dict[str, Any]:
        return self._database.flush()

    def close(self) -> None:
        taken = {key: int(note) for key, note in self._database.notes()}
        (self._folder / f"nbb_{NAME}.json").write_text(json.dumps(taken), encoding="utf-8")
        self._database.close(KEYS, json.dumps(list(taken)).encode())

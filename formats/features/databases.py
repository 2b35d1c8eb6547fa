"""LMDB databases: read in the order of their keys without a copy, written in transactions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lmdb

from formats.features.lines import LineFile, lines, text
from pairloom.errors import InputError

MAP_SIZE = 1 << 40  # bytes that a database may grow to. The file takes what is used


def entries(path: Path, besides: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """(key, value) of a database but for the list of its keys, in their order. A value is valid until the next."""
    with opened(path) as environment, environment.begin(buffers=True) as transaction:
        for key, value in transaction.cursor():
            if bytes(key) != besides:
                yield bytes(key), value


def value_of(path: Path, key: bytes) -> bytes | None:
    with opened(path) as environment, environment.begin() as transaction:
        found: bytes | None = transaction.get(key)
        return found


def absent(path: Path, keys: Iterator[bytes]) -> Iterator[bytes]:
    """Those of these keys that the database lacks."""
    with opened(path) as environment, environment.begin(buffers=True) as transaction:
        yield from (key for key in keys if transaction.get(key) is None)


def opened(path: Path) -> Any:
    """The database in this folder, or file. Raises InputError where it is none."""
    try:
        return lmdb.open(str(path), readonly=True, lock=False, create=False, subdir=path.is_dir())
    except lmdb.Error as error:
        raise InputError(
            f"it is no LMDB database: {error}", str(path), "name its folder, which has data.mdb"
        ) from error


def found(path: Path) -> list[Path]:
    """The database at this path, or those directly below the folder. Raises InputError if there is none."""
    if path.is_file() or (path / "data.mdb").exists():
        return [path]
    inside = sorted(each.parent for each in path.glob("*/data.mdb"))
    inside += sorted(each for each in path.glob("*.lmdb") if each.is_file())
    if not inside:
        raise InputError("there is no LMDB database here", str(path), "name the folder that has data.mdb")
    return inside


class Database:
    """One in the making. Beside it a list of its keys with a note each, from which `notes` makes its end.

    A killed run loses what came after the last `flush`. A key that is put again replaces its value.
    """

    def __init__(self, path: Path, state: Mapping[str, Any]) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._list = path.with_name(f".{path.name}.keys")
        self._keys = LineFile(self._list, dict(state))
        self._environment = lmdb.open(str(path), map_size=MAP_SIZE)
        self._transaction = self._environment.begin(write=True)

    def put(self, key: str, value: bytes, note: bytes = b"") -> None:
        name = key.encode()
        if len(name) > self._environment.max_key_size():
            what = f"the key {key[:60]!r}… has {len(name)} bytes; LMDB takes {self._environment.max_key_size()}"
            raise InputError(what, str(self._list.parent), "name pictures by another column (--key)")
        self._transaction.put(name, value)
        self._keys.write(name, note)

    def flush(self) -> dict[str, Any]:
        self._transaction.commit()
        self._environment.sync(True)
        self._transaction = self._environment.begin(write=True)
        return self._keys.flush()

    def notes(self) -> Iterator[tuple[str, str]]:
        """(key, note) of all entries, in the order in which they were put."""
        self._keys.flush()
        return ((text(line.cells[0]), text(line.cells[1]) if len(line.cells) > 1 else "") for line in lines(self._list))

    def close(self, key: bytes | None = None, keys: bytes = b"") -> None:
        """Put the list of keys under this key, if there is one, and end."""
        if key is not None:
            self._transaction.put(key, keys)
        self.stop()

    def stop(self) -> None:
        self._transaction.commit()
        self._environment.close()
        self._keys.close()

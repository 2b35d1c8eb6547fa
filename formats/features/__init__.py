"""Region features in the layouts of published code: a module a layout, which reads and writes it.

A layout is a module here with `read`, `entry`, `Writer`, `NEEDS` and `STORED`.
Its name on the command line has - for _.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from formats.features.record import Bad, Record, Vocabularies
from pairloom.errors import ConfigError

ENDINGS = ("_tsv", "_npz", "_lmdb", "_lmdb_compressed", "_h5", "_npy", "_instances")


class Writer(Protocol):
    """Entries go in one by one. What `flush` has returned is what another writer needs to go on from there."""

    def add(self, entry: Any) -> None: ...

    def flush(self) -> dict[str, Any]:
        """All so far is on disk."""

    def close(self) -> None:
        """Write what belongs at the end. It may be done again. Hidden files are removed by others."""


class Opens(Protocol):
    def __call__(self, folder: Path, words: Vocabularies, state: Mapping[str, Any], /) -> Writer: ...


class Layout(Protocol):
    """The module of a layout."""

    NEEDS: tuple[str, ...]  # fields of Record without which it can't be written
    STORED: str  # type in which it keeps features
    # and COSTLY = True where `entry` takes longer than to hand its result to another process

    def read(self, path: Path, floats: str, /) -> Iterator[Record | Bad]:
        """The pictures in the order of the file, one in memory at a time; floats: a type in place of the usual one."""

    def entry(self, record: Record, words: Vocabularies, /) -> Any:
        """A picture as its writer takes it, mostly bytes. This is most of the work, and any process may do it."""

    @property
    def Writer(self) -> Opens: ...  # noqa: N802  # a module's class


def names() -> tuple[str, ...]:
    """Every layout, as the command line calls it."""
    found = (module.name for module in pkgutil.iter_modules(__path__) if module.name.endswith(ENDINGS))
    return tuple(sorted(name.replace("_", "-") for name in found))


def load(name: str) -> Any:
    """The layout of this name. Raises ConfigError if there is none."""
    if name not in names():
        raise ConfigError(f"there is no layout {name!r}", "--as", f"name one of {', '.join(names())}")
    return importlib.import_module(f"formats.features.{name.replace('-', '_')}")

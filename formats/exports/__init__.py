"""Training shards in the layouts of pairs that others train from: a module a layout, with `read`, `entry` and `Writer`.

Its name on the command line has - for _.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

from formats.exports.pairs import Pair
from formats.exports.settings import Settings
from pairloom.errors import ConfigError

SHARED = ("pairs", "settings", "numbering", "samples")  # modules that are no layouts


class Writer(Protocol):
    """Entries go in one by one. What `flush` has returned is what another writer needs to go on from there."""

    def add(self, entry: Any) -> None: ...

    def flush(self) -> dict[str, Any]:
        """All so far is on disk."""

    def close(self) -> None:
        """Write what belongs at the end. It may be done again. Hidden files are removed by others."""


class Layout(Protocol):
    """The module of a layout."""

    PICTURES: Literal["needed", "taken", "none"]  # needed: a pair without one has no place in it; none: holds texts

    # and perhaps FILES, a pattern of those that `read` takes one by one. COSTLY, as in formats/features, and
    # `check(settings)`, which raises ConfigError before any work

    def read(self, folder: Path, /) -> Iterator[Pair]:
        """The pairs of a split's folder, with pictures and captions, to compare them with what was written."""

    def entry(self, pair: Pair, settings: Settings, /) -> Any:
        """A pair as its writer takes it, mostly bytes. This is most of the work, and any process may do it."""

    def finish(self, out: Path, splits: dict[str, int], settings: Settings, /) -> None:
        """Write what belongs to all splits: how many pairs went into each."""


def names() -> tuple[str, ...]:
    """Every layout, as the command line calls it."""
    found = (module.name for module in pkgutil.iter_modules(__path__) if module.name not in SHARED)
    return tuple(sorted(name.replace("_", "-") for name in found))


def load(name: str) -> Any:
    """The layout of this name. Raises ConfigError if there is none."""
    if name not in names():
        raise ConfigError(f"there is no layout {name!r}", "--as", f"name one of {', '.join(names())}")
    return importlib.import_module(f"formats.exports.{name.replace('-', '_')}")

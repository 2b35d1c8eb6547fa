"""Data sets that people already have, each as table `urls` whose rows say where a picture lies (formats/locators.py).

A format is a module of this package with

    recognise(data)  -> why the data look like this format, or None
    rows(data)       -> (file, number, Pair or Bad) of each row, in an order that is always the same
    ABOVE            names of more general formats that it is an instance of, if any

There is no other list of formats: `names` finds them.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

from formats.datasets.opened import Data
from formats.lists.files import FORMATS, kind_and_packing
from formats.lists.urls import Pair, Row
from pairloom.errors import ConfigError, InputError

HELPERS = ("opened", "published", "rowfiles", "streams", "truth")  # modules of this package that are no formats

# What a reader meets where a file holds other values than its format says, such as a number for an object.
FOREIGN = (AttributeError, KeyError, IndexError, TypeError, ValueError)


class Format(Protocol):
    """A module of this package."""

    ABOVE: tuple[str, ...]

    def recognise(self, data: Data, /) -> str | None: ...

    def rows(self, data: Data, /) -> Iterator[Row]: ...


def names() -> tuple[str, ...]:
    """The formats, as `--as` calls them, by the alphabet."""
    found = (module.name for module in pkgutil.iter_modules(__path__) if module.name not in HELPERS)
    return tuple(sorted(name.replace("_", "-") for name in found))


def load(name: str) -> Format:
    """Raises ConfigError if there is no format of this name."""
    if name not in names():
        raise ConfigError(f"there is no format {name!r}", "sample.format", f"name one of {', '.join(names())}")
    found: Format = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    return found


def read(name: str, data: Data) -> Iterator[Row]:
    """The rows of a data set of this format. One that names no collection is of the data's source.

    Raises InputError if a file of it cannot be read, or is not what its format says.
    """
    file, number = "", 0
    try:
        for file, number, row in load(name).rows(data):
            yield file, number, replace(row, source=data.source) if isinstance(row, Pair) and not row.source else row
    except FOREIGN as error:
        said = f"it is not laid out as {name} is: {type(error).__name__}: {error}"
        where = f"{data.where(file)}, after row {number}" if file else data.place
        raise InputError(said, where, "repair the data set, or name its true format with --as") from error


def detect(data: Data) -> tuple[str, str]:
    """(format, why) of data that say themselves what they are. Raises InputError where they do not, or twice."""
    found = {name: why for name in names() if (why := load(name).recognise(data))}
    general = {above for name in found for above in load(name).ABOVE}
    left = {name: why for name, why in found.items() if name not in general}
    if len(left) == 1:
        return next(iter(left.items()))
    if not left:
        fix = f"name it: --as {'|'.join(names())}"
        if kind_and_packing(data.place)[0] in FORMATS:
            fix = f"`pairloom download` takes lists of URLs; or {fix}"
        raise InputError("it is none of the data sets that are known", data.place, fix)
    said = "; ".join(f"{name}, since {why}" for name, why in left.items())
    raise InputError(f"it may be {said}", data.place, f"say which with --as {'|'.join(left)}")

"""What an export needs of a layout, whether that holds features or pairs. Kinds go to other processes as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from formats import exports, features
from formats.exports.pairs import COLUMNS, pairs_of, parts
from formats.exports.settings import Settings
from formats.features.record import Vocabularies
from formats.features.tables import READ, records_of, words_of
from pairloom.errors import ConfigError
from pairloom.store.folder import Folder
from pipeline.features.sums import PairSums, Sums


class Kind(Protocol):
    """A layout, and how shards become what its writer takes."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Fields of Record without which it can't be written."""

    @property
    def columns(self) -> list[str]:
        """What is read of the shards."""

    @property
    def costly(self) -> bool:
        """Whether several processes pay."""

    def rows(self, table: pa.Table, keys: Sequence[str], /) -> Iterator[Any]: ...

    def takes(self, one: Any, /) -> bool:
        """Whether it has a place for one of these rows."""

    def entry(self, one: Any, /) -> Any:
        """A row as the writer takes it."""

    def open(self, place: Path, state: Mapping[str, Any], /) -> Any:
        """The writer of a folder."""

    def parts(self, place: Path, /) -> list[Path]:
        """What of a folder is read one by one, by any process. Perhaps the folder alone."""

    def read(self, part: Path, /) -> Iterator[Any]: ...

    def sums(self) -> Any: ...

    def finish(self, out: Path, splits: dict[str, int], /) -> None: ...


@dataclass(frozen=True)
class FeatureKind:
    """A layout of formats/features."""

    name: str
    words: Vocabularies
    columns: list[str]

    @property
    def _module(self) -> Any:
        return features.load(self.name)

    @property
    def needs(self) -> tuple[str, ...]:
        needs: tuple[str, ...] = self._module.NEEDS
        return needs

    @property
    def costly(self) -> bool:
        return bool(getattr(self._module, "COSTLY", False))

    def rows(self, table: pa.Table, keys: Sequence[str]) -> Iterator[Any]:
        return records_of(table, keys)

    def takes(self, one: Any) -> bool:
        return True

    def entry(self, one: Any) -> Any:
        return self._module.entry(one, self.words)

    def open(self, place: Path, state: Mapping[str, Any]) -> Any:
        return self._module.Writer(place, self.words, state)

    def parts(self, place: Path) -> list[Path]:
        return [place]

    def read(self, part: Path) -> Iterator[Any]:
        found: Iterator[Any] = self._module.read(part, "<f4")
        return found

    def sums(self) -> Sums:
        return Sums(self._module.STORED)

    def finish(self, out: Path, splits: dict[str, int]) -> None:
        """Nothing belongs to all splits."""


@dataclass(frozen=True)
class PairKind:
    """A layout of formats/exports."""

    name: str
    settings: Settings
    columns: list[str]
    needs: tuple[str, ...] = ()

    @property
    def _module(self) -> Any:
        return exports.load(self.name)

    @property
    def costly(self) -> bool:
        return bool(getattr(self._module, "COSTLY", False))

    def rows(self, table: pa.Table, keys: Sequence[str]) -> Iterator[Any]:
        return pairs_of(table, keys)

    def takes(self, one: Any) -> bool:
        held = {"needed": one.image, "taken": True, "none": one.captions}
        return bool(held[self._module.PICTURES])

    def entry(self, one: Any) -> Any:
        return self._module.entry(one, self.settings)

    def open(self, place: Path, state: Mapping[str, Any]) -> Any:
        return self._module.Writer(place, self.settings, state)

    def parts(self, place: Path) -> list[Path]:
        pattern = getattr(self._module, "FILES", None)
        return parts(place, pattern) if pattern else [place]

    def read(self, part: Path) -> Iterator[Any]:
        found: Iterator[Any] = self._module.read(part)
        return found

    def sums(self) -> PairSums:
        return PairSums(pictures=self._module.PICTURES != "none")

    def finish(self, out: Path, splits: dict[str, int]) -> None:
        self._module.finish(out, splits, self.settings)


def names() -> tuple[str, ...]:
    """Every layout that can be written."""
    return (*features.names(), *exports.names())


def kind_of(name: str, folder: Folder, notes: Mapping[str, str], settings: Settings) -> Kind:
    """Raises ConfigError where the layout needs training shards and the folder is of regions, or has no picture."""
    words = words_of(notes)
    if name in features.names():
        return FeatureKind(name, words, [*READ, *(["feature_scales"] if folder.table == "shards" else [])])
    if folder.table != "shards":
        raise ConfigError(f"{name} is made of training shards", str(folder.path), "name a folder of the stage shards")
    if exports.load(name).PICTURES == "needed" and not any(map(_any_picture, _pictures(folder))):
        raise ConfigError(
            f"{name} holds pictures, and these pairs came with their features alone", str(folder.path),
            "take hf, webdataset or coco, which go without, or a layout of features",
        )  # fmt: skip
    if hasattr(exports.load(name), "check"):
        exports.load(name).check(settings)
    columns = [*READ, *(column for column in COLUMNS if column not in READ)]
    return PairKind(name, replace(settings, classes=words.classes, attributes=words.attributes), columns)


def _any_picture(table: pa.Table) -> bool:
    return bool(pc.max(pc.binary_length(table["image"])).as_py())


def _pictures(folder: Folder) -> Iterator[pa.Table]:
    return (table for _, table in folder.tables(["image"]))

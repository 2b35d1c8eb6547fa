"""What an export needs of a layout, whether that holds features or pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from formats import exports, features
from formats.exports.pairs import COLUMNS, pairs_of
from formats.exports.settings import Settings
from formats.features.tables import READ, records_of, words_of
from pairloom.errors import ConfigError
from pairloom.store.folder import Folder
from pipeline.features.sums import PairSums, Sums


@dataclass(frozen=True)
class Kind:
    """A layout, and how shards become what its writer takes."""

    needs: tuple[str, ...]  # fields of Record without which it can't be written
    columns: list[str]
    rows: Callable[[pa.Table, Sequence[str]], Iterator[Any]]
    takes: Callable[[Any], bool]  # whether it has a place for one of these
    open: Callable[[Path, Mapping[str, Any]], Any]
    read: Callable[[Path], Iterator[Any]]
    sums: Callable[[], Any]
    finish: Callable[[Path, dict[str, int]], None]


def names() -> tuple[str, ...]:
    """Every layout that can be written."""
    return (*features.names(), *exports.names())


def kind_of(name: str, folder: Folder, notes: Mapping[str, str], settings: Settings) -> Kind:
    """Raises ConfigError where the layout needs training shards and the folder is of regions, or has no picture."""
    words = words_of(notes)
    scales = ["feature_scales"] if folder.table == "shards" else []
    if name in features.names():
        module = features.load(name)
        return Kind(
            needs=module.NEEDS,
            columns=[*READ, *scales],
            rows=records_of,
            takes=lambda record: True,
            open=lambda place, state: module.Writer(place, words, state),
            read=lambda place: module.read(place, "<f4"),
            sums=lambda: Sums(module.STORED),
            finish=lambda out, splits: None,
        )
    if folder.table != "shards":
        raise ConfigError(f"{name} is made of training shards", str(folder.path), "name a folder of the stage shards")
    module, known = exports.load(name), replace(settings, classes=words.classes)
    if module.PICTURES and not any(table["image"].to_pylist().count(b"") < len(table) for table in _pictures(folder)):
        raise ConfigError(
            f"{name} holds pictures, and these pairs came with their features alone", str(folder.path),
            "take hf, webdataset or coco, which go without, or a layout of features",
        )  # fmt: skip
    return Kind(
        needs=(),
        columns=[*READ, *(column for column in COLUMNS if column not in READ)],
        rows=pairs_of,
        takes=lambda pair: bool(pair.image) or not module.PICTURES,
        open=lambda place, state: module.Writer(place, known, state),
        read=module.read,
        sums=lambda: PairSums(),
        finish=lambda out, splits: module.finish(out, splits, known),
    )


def _pictures(folder: Folder) -> Iterator[pa.Table]:
    return (table for _, table in folder.tables(["image"]))

"""Megatron-Energon's data sets of WebDataset: `.nv-meta` says which tars are of which split, and what is left out.

.nv-meta/split.yaml (or split.json): `split_parts`, the tars of each split, and `exclude`, tars and samples TAR/KEY that
are not to be used, both with braces such as {000..011} (megatron-energon 7.4, flavors/webdataset/metadata.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import yaml

from formats.braces import expanded
from formats.datasets import webdataset
from formats.datasets.opened import Data
from formats.lists.bad import Bad
from formats.lists.urls import Pair, Row
from formats.names import as_text
from formats.pictures.errors import SourceError
from pairloom.errors import InputError

ABOVE = ("webdataset", "folder")
SPLITS = (".nv-meta/split.yaml", ".nv-meta/split.json")


def recognise(data: Data) -> str | None:
    found = None if data.file else _there(data)
    return f"it has {found}" if found else None


def rows(data: Data) -> Iterator[Row]:
    """The samples of each split's tars, with `split` in `extra`. What is excluded is not part of the data set."""
    parts, excluded = _splits(data)
    for split, tars in parts.items():
        for tar in tars:
            if tar in excluded:
                continue
            if tar not in data.listed:
                said = f"{SPLITS[0]} names the tar {tar!r}, which is not there"
                yield tar, 1, Bad(as_text(tar), said, "fetch it, or take its name out")
                continue
            for file, number, row in webdataset.of_tar(data, tar):
                if not isinstance(row, Pair):
                    yield file, number, row
                elif f"{tar}/{row.extra['key']}" not in excluded:
                    yield file, number, replace(row, extra={**row.extra, "split": split})


def _there(data: Data) -> str | None:
    for name in SPLITS:
        try:
            data.root.open(name).close()
        except SourceError:
            continue
        return name
    return None


def _splits(data: Data) -> tuple[dict[str, list[str]], frozenset[str]]:
    """(tars of each split, what is excluded). Raises InputError."""
    name = _there(data)
    if name is None:
        raise InputError(f"there is no {SPLITS[0]}", data.place, "import it --as webdataset, or run `energon prepare`")
    try:
        content: Any = yaml.safe_load(data.read_text(name))  # JSON is YAML, too
        parts: Mapping[str, list[str]] = content["split_parts"]
        tars = {split: [each for text in listed for each in expanded(text)] for split, listed in parts.items()}
        return tars, frozenset(each for text in content.get("exclude") or () for each in expanded(text))
    except (yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
        fix = "run `energon prepare` again, or import it --as webdataset"
        raise InputError(
            f"its splits cannot be read: {type(error).__name__}: {error}", data.where(name), fix
        ) from error

"""Texts without images: what rows of text alone are drawn from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pairloom.errors import ConfigError, StoreError
from pairloom.loader.plan import Plan
from pairloom.store.folder import open_folder, sha256_of
from pairloom.table import Array

DECODED_GROUPS = 128  # row groups of some hundred texts that a process keeps decoded
OPEN_FILES = 32  # files that it keeps open


@dataclass(frozen=True)
class Texts:
    """The texts of a table in the wanted languages, or of none that is known. All languages if none is named."""

    files: tuple[Path, ...]
    languages: tuple[str, ...]
    places: tuple[tuple[int, int], ...]  # file and row group of each group
    ends: Array  # wanted texts up to the end of each group
    sha256: str  # of all files
    _groups: dict[int, list[str]] = field(default_factory=dict, repr=False, compare=False)
    _files: dict[int, pq.ParquetFile] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return int(self.ends[-1])

    def draw(self, rng: np.random.Generator) -> str:
        """Any of them, each equally likely: a function of what rng gives, whatever was drawn before."""
        number = int(rng.integers(len(self)))
        group = int(np.searchsorted(self.ends, number, side="right"))
        return self._group(group)[number - int(self.ends[group])]  # counted from the group's end

    def all(self, most_groups: int | None = None) -> Iterator[str]:
        """In stored order; of so many row groups at most, evenly spread."""
        for group in sampled(len(self.places), most_groups):
            yield from self._read(group)

    def _group(self, group: int) -> list[str]:
        if group not in self._groups:
            while len(self._groups) >= DECODED_GROUPS:
                self._groups.pop(next(iter(self._groups)))
            self._groups[group] = self._read(group)
        return self._groups[group]

    def _read(self, group: int) -> list[str]:
        file, number = self.places[group]
        with _as_store_error(self.files[file]):
            table = self._file(file).read_row_group(number, columns=["text", "lang"])
        texts: list[str] = table["text"].filter(_wanted(table["lang"], self.languages)).to_pylist()
        return texts

    def _file(self, file: int) -> pq.ParquetFile:
        if file not in self._files:  # reading a footer takes longer than a row group
            while len(self._files) >= OPEN_FILES:
                self._files.pop(next(iter(self._files))).close()
            self._files[file] = _parquet_file(self.files[file])
        return self._files[file]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_groups": {}, "_files": {}}  # a worker opens its own


def sampled(count: int, most: int | None) -> Iterable[int]:
    """The numbers below `count`, or so many of them at most, evenly spread."""
    return range(count) if most is None or count <= most else (number * count // most for number in range(most))


def open_texts(folder: Path, plan: Plan) -> Texts:
    """The texts of a table that `pairloom texts` wrote, in the recipe's languages.

    Raises StoreError if there are none, ConfigError if the recipe has no rows of text alone.
    """
    languages = plan.text.languages
    if not plan.shows_text_alone():
        given = f"there are texts without images, but recipe {plan.name} has no rows of text alone"
        raise ConfigError(given, str(folder), "leave train.RECIPE.texts out, or take another recipe")
    table = open_folder(folder)
    files = tuple(table.here(entry.name) for entry in table.shards if entry.rows)
    if table.table != "texts" or not table.complete or not files:
        raise StoreError("it is no finished table of texts", str(folder), "make one with `pairloom texts`")
    counts = [_counts(file, languages) for file in files]
    places = tuple((file, group) for file, groups in enumerate(counts) for group in range(len(groups)))
    ends = np.cumsum(np.concatenate(counts))
    if not ends[-1]:
        wanted = ", ".join(languages)
        raise StoreError(f"no text is in {wanted}", str(folder), "list such texts, or set text.languages of the recipe")
    return Texts(files, languages, places, ends, sha256_of(table.shards))


def _counts(path: Path, languages: Sequence[str]) -> Array:
    """Wanted texts of each row group."""
    with _as_store_error(path), _parquet_file(path) as file:
        wanted = _wanted(file.read(columns=["lang"])["lang"], languages)
        rows = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    starts = np.cumsum([0, *rows[:-1]])
    return np.add.reduceat(np.asarray(wanted).astype(np.int64), starts)


def _wanted(langs: pa.ChunkedArray, languages: Sequence[str]) -> pa.Array | pa.ChunkedArray:
    if not languages:
        return pa.array(np.ones(len(langs), bool))
    return pc.or_(pc.is_null(langs), pc.is_in(langs, pa.array(languages, pa.string())))


def _parquet_file(path: Path) -> pq.ParquetFile:
    return pq.ParquetFile(path, page_checksum_verification=True)


@contextmanager
def _as_store_error(path: Path) -> Iterator[None]:
    """Raises StoreError where the file is missing or not what was written."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"the texts cannot be read: {error}", str(path), "run `pairloom texts` again") from error

"""Images to keep away from, such as the test sets of benchmarks: read as hashes from tables or folders of images."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pairloom.errors import InputError
from pairloom.phash import phash
from stages.curate.config import Config

HASHES = ("phash", "image_id", "sha256")  # columns of a table of hashes, and of table `pairs`
IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")


@dataclass
class Excluded:
    """The hashes of all that is to be kept away from."""

    phashes: npt.NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    ids: set[bytes] = field(default_factory=set)  # of stored bytes (image_id) and of fetched ones (sha256)


def files(config: Config) -> list[Path]:
    """Every file that decides what is excluded. Raises InputError if a name leads nowhere."""
    found = [file for name in config.exclude for file in _files(Path(name))]
    return found + ([Path(config.blocked_words)] if config.blocked_words else [])


def read(config: Config) -> Excluded:
    """The hashes behind `exclude`. Raises InputError."""
    tables: list[Path] = []
    images: list[Path] = []
    for file in (file for name in config.exclude for file in _files(Path(name))):
        (tables if file.suffix == ".parquet" else images).append(file)
    phashes = [_phash(file) for file in images]
    ids: set[bytes] = set()
    for table in map(_table, tables):
        if "phash" in table.column_names:
            phashes += table["phash"].drop_null().to_pylist()
        for name in ("image_id", "sha256"):
            if name in table.column_names:
                ids.update(table[name].cast(pa.binary()).drop_null().to_pylist())
    return Excluded(np.array(phashes, np.uint64), ids)


def write(config: Config, file: Path) -> Path | None:
    """`read`, once, into a file that `opened` reads on workers. None if nothing is excluded."""
    if not config.exclude:
        return None
    found = read(config)
    ids, phashes = pa.array([sorted(found.ids)], pa.list_(pa.binary())), pa.array([found.phashes])
    pq.write_table(pa.table({"ids": ids, "phashes": phashes}), file)
    return file


@functools.lru_cache(maxsize=1)
def opened(file: Path) -> Excluded:
    """What `write` wrote. The file is replaced, never changed."""
    table = pq.read_table(file)
    return Excluded(table["phashes"].combine_chunks().values.to_numpy(), set(table["ids"][0].as_py()))


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in (".parquet", *IMAGES))
    if not found:
        raise InputError(
            "there is neither a table nor an image here",
            str(path),
            "correct curate.exclude in params.yaml",
        )
    yield from found


def _table(file: Path) -> pa.Table:
    names = [name for name in pq.read_schema(file).names if name in HASHES]
    if not names:
        raise InputError(
            f"the table has none of the columns {', '.join(HASHES)}", str(file), "write hashes under these names"
        )
    return pq.read_table(file, columns=names)


def _phash(file: Path) -> int:
    try:
        with Image.open(file) as image:
            return phash(image)
    except OSError as error:
        raise InputError(f"the image cannot be read: {error}", str(file), "repair it or take it away") from error

"""Where lists lie and how they are packed: local paths and those of fsspec (s3://…, memory://…, hf://…)."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast

import fsspec
import pyarrow as pa

from pairloom.errors import InputError

FORMATS = ("csv", "tsv", "txt", "json", "jsonl", "ndjson", "parquet")
PACKED: dict[str, Callable[[BinaryIO], Any]] = {
    "gz": gzip.open,
    "bz2": bz2.open,
    "xz": lzma.open,
    "zst": lambda raw: pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd"),
}


def files(name: str) -> list[str]:
    """The file itself, or every list in a folder, by name. Raises InputError if there is none."""
    system, path = _system(name)
    if system.isdir(path):
        listed = sorted(str(entry) for entry in system.ls(path, detail=False))
        found = [file for file in listed if kind_and_packing(file)[0] in FORMATS and system.isfile(file)]
        if found:
            return [system.unstrip_protocol(file) if "://" in name else file for file in found]
        raise InputError("the folder has no list", name, f"put a list there: {_spelled()}")
    if not system.isfile(path):
        raise InputError("there is no such file", name, "correct sample.urls in params.yaml, or --urls")
    format_of(name)
    return [name]


def format_of(file: str) -> str:
    """One of FORMATS, by the file's name. Raises InputError for another."""
    kind, packing = kind_and_packing(file)
    if kind not in FORMATS or (kind == "parquet" and packing):
        said = ".".join(filter(None, (kind, packing)))
        raise InputError(
            f"{said or 'a name without an ending'} is not a format of lists",
            file,
            f"name it after its format: {_spelled()}",
        )
    return kind


def kind_and_packing(file: str) -> tuple[str, str]:
    """The endings of a name: "a.csv.gz" gives csv and gz, "a.csv" csv and nothing."""
    path = PurePosixPath(file.lower())
    packing = path.suffix.removeprefix(".")
    if packing not in PACKED:
        return packing, ""
    return PurePosixPath(path.stem).suffix.removeprefix("."), packing


@contextmanager
def opened(file: str) -> Iterator[BinaryIO]:
    """The file's bytes, unpacked."""
    system, path = _system(file)
    packing = kind_and_packing(file)[1]
    with system.open(path, "rb") as raw:
        if not packing:
            yield raw
            return
        with PACKED[packing](raw) as stream:
            yield cast(BinaryIO, stream)


def _system(name: str) -> tuple[Any, str]:
    try:
        system, path = fsspec.core.url_to_fs(name)
    except (ImportError, ValueError) as error:  # an unknown protocol, or one whose package is missing
        raise InputError(
            f"there is no way to it: {error}", name, "correct the name, or install that package"
        ) from error
    return system, path


def _spelled() -> str:
    return f"{', '.join(FORMATS)}; all but parquet may be packed as .{', .'.join(PACKED)}"

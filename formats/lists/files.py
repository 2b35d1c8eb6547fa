"""Where lists lie and how they are packed: local paths and those of fsspec (s3://…, memory://…, hf://…)."""

from __future__ import annotations

import bz2
import csv
import gzip
import hashlib
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast

import pyarrow as pa

from pairloom.errors import InputError
from pairloom.filesystems import file_system

FORMATS = ("csv", "tsv", "txt", "json", "jsonl", "ndjson", "parquet")
PACKED: dict[str, Callable[[BinaryIO], Any]] = {
    "gz": gzip.open,
    "bz2": bz2.open,
    "xz": lzma.open,
    "zst": lambda raw: pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd"),
}
# The first bytes of a packed file, by which one without that ending is recognised.
MAGIC = {"gz": b"\x1f\x8b", "bz2": b"BZh", "xz": b"\xfd7zXZ\x00", "zst": b"\x28\xb5\x2f\xfd"}
# What the libraries raise for a file that is missing, damaged, or not what its name says.
UNREADABLE = (
    OSError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    csv.Error,
    json.JSONDecodeError,
    UnicodeDecodeError,
    RecursionError,
    pa.ArrowException,
)


def files(name: str) -> list[str]:
    """The file itself, or every list in a folder, by name. Raises InputError if there is none."""
    system, path = file_system(name)
    if system.isdir(path):
        listed = sorted(str(entry) for entry in system.ls(path, detail=False))
        found = [file for file in listed if kind_and_packing(file)[0] in FORMATS and system.isfile(file)]
        if found:
            return [system.unstrip_protocol(file) if "://" in name else file for file in found]
        raise InputError("the folder has no list", name, f"put a list there: {_spelled()}")
    if not system.isfile(path):
        raise InputError("there is no such file", name, "correct the path of the list")
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
    system, path = file_system(file)
    packing = kind_and_packing(file)[1]
    with system.open(path, "rb") as raw:
        if not packing:
            yield raw
            return
        with PACKED[packing](raw) as stream:
            yield cast(BinaryIO, stream)


def encoding_of(file: str) -> str:
    """UTF-8, or UTF-16 where the file begins with its byte order mark. Raises InputError if the file is packed."""
    try:
        with opened(file) as stream:
            start = stream.read(6)
    except UNREADABLE as error:
        raise unreadable(file, error, file) from error
    packing = next((name for name, magic in MAGIC.items() if start.startswith(magic)), None)
    if packing:
        raise InputError(f"the file is packed as {packing}", file, f"give its name the ending .{packing}")
    return "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def sha256(name: str) -> str:
    """The digest of the file as stored. For a folder, that of its lists' digests in order. Hexadecimal digits."""
    digests = [_sha256(file) for file in files(name)]
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _sha256(file: str) -> str:
    system, path = file_system(file)
    try:
        with system.open(path, "rb") as raw:
            return hashlib.file_digest(raw, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(file, error, file) from error


def unreadable(file: str, error: Exception, where: str) -> InputError:
    """The error to raise for one of UNREADABLE."""
    if isinstance(error, UnicodeDecodeError):
        return InputError(f"a byte is not UTF-8: {error}", where, "save the list as UTF-8")
    kind = kind_and_packing(file)[0]
    return InputError(f"it cannot be read as {kind}: {error}", where, "repair the file, or name its true format")


def _spelled() -> str:
    return f"{', '.join(FORMATS)}; all but parquet may be packed as .{', .'.join(PACKED)}"

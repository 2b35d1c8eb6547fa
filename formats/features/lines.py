"""Files of a picture a line, tab-separated, arrays in base64: read line by line, written so as to be resumed."""

from __future__ import annotations

import binascii
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from formats.features.record import Array, Bad, BrokenError, Record, bad_of
from pairloom.errors import InputError

Cell = bytes | memoryview  # a long one is a view of its line, which is not copied
LONG = 1 << 12
LETTER_B, QUOTES = ord("b"), b"'\""
BUFFER = 8 << 20  # a line has half a megabyte
FLOATS = {"float16": "<f2", "float32": "<f4", "float64": "<f8"}


@dataclass(frozen=True)
class Line:
    """One line of a file. `whole` is False for a last line without a line end, which may be cut off."""

    number: int  # from 1
    start: int  # byte in the file
    cells: list[Cell]
    raw: bytes  # with its end
    whole: bool
    place: str

    @property
    def key(self) -> str:
        """The first cell. Python's csv module puts quotes around one that holds a quote."""
        return text(self.cells[0])

    def cut_off(self, error: Exception) -> Bad:
        """What is said of a last line without a line end that can't be read."""
        return Bad(self.key, self.place, "cut-off", f"the file ends within this line: {error}")


def text(cell: Cell) -> str:
    """A cell's text. What is not UTF-8 is replaced, since a key must be storable."""
    cell = bytes(cell)
    if cell[:1] == cell[-1:] == b'"' and len(cell) > 1:
        cell = cell[1:-1].replace(b'""', b'"')
    return cell.decode("utf-8", errors="backslashreplace")


def lines(path: Path, start: int = 0) -> Iterator[Line]:
    """The lines of a file from this byte on, empty ones left out. Raises InputError where it can't be read."""
    try:
        with path.open("rb", buffering=BUFFER) as file:
            file.seek(start)
            at = start
            for number, raw in enumerate(file, start=1):
                end = len(raw)
                while end and raw[end - 1] in b"\r\n":
                    end -= 1
                if end:
                    yield Line(number, at, _cells(raw, end), raw, raw.endswith(b"\n"), f"{path}, line {number}")
                at += len(raw)
    except OSError as error:
        raise InputError(f"the file can't be read: {error.strerror}", str(path), "check the path and disk") from error


def records(
    file: Path,
    record_of: Callable[[Line], Record],
    errors: tuple[type[Exception], ...] = (BrokenError,),
    heading: str | None = None,
) -> Iterator[Record | Bad]:
    """What `record_of` makes of each line, or what is wrong with it; errors: those that mean that it is broken.

    heading: the first cell of a line that is none of a picture, which some scripts write.
    """
    for line in lines(file):
        if line.key == heading:
            continue
        try:
            yield record_of(line)
        except errors as error:
            yield bad_of(error, line.key, line.place) if line.whole else line.cut_off(error)


def _cells(raw: bytes, end: int) -> list[Cell]:
    """What tabs part in the first `end` bytes of a line."""
    view, cells, start = memoryview(raw), list[Cell](), 0
    while start <= end:
        stop = raw.find(b"\t", start, end)
        stop = end if stop < 0 else stop
        cells.append(view[start:stop] if stop - start > LONG else raw[start:stop])
        start = stop + 1
    return cells


def decoded(cell: Cell, name: str) -> bytes:
    """The bytes of a base64 cell. B'…', which Python 3 made of scripts for Python 2, is taken for what is meant."""
    if len(cell) > 2 and cell[0] == LETTER_B and cell[1] in QUOTES:
        cell = cell[2:-1]
    try:
        return binascii.a2b_base64(cell, strict_mode=True)
    except binascii.Error as error:
        raise BrokenError(f"{name} is not base64: {error}") from error


def numbers(cell: Cell, name: str, dtype: str, rows: int, columns: int | None = None) -> Array:
    """(rows, columns) numbers of this type, read-only; (rows,) where columns is 0, any number of them where None.

    Raises BrokenError where the bytes do not fit, and names the float type that they would fit.
    """
    data = decoded(cell, name)
    size = np.dtype(dtype).itemsize
    wanted = rows * size * (columns or 1)
    if len(data) % (wanted or 1) or (columns is not None and len(data) != wanted) or (len(data) and not rows):
        raise BrokenError(*_unfit(len(data), name, dtype, rows, columns))
    values = np.frombuffer(data, dtype)
    return values if columns == 0 else values.reshape(rows, -1 if rows else columns or 0)


def _unfit(size: int, name: str, dtype: str, rows: int, columns: int | None) -> tuple[str, str]:
    """(detail, reason) of bytes that are not so many numbers."""
    said = f"{name} has {size} bytes, not {rows} × {columns or 1 if columns is not None else 'n'} of {np.dtype(dtype)}"
    for other, kind in FLOATS.items():
        if (
            columns is not None
            and size == rows * (columns or 1) * np.dtype(kind).itemsize
            and np.dtype(dtype).kind == "f"
        ):
            return f"{said}; they would be {other} (--floats {other})", "other-width"
    return said, "bad-features"


def whole_number(cell: Cell, name: str) -> int:
    """Raises BrokenError where the cell holds none, or a negative one."""
    try:
        number = int(float(bytes(cell)))
    except (ValueError, OverflowError) as error:
        raise BrokenError(f"{name} is {text(cell)[:40]!r}, not a number") from error
    if number < 0:
        raise BrokenError(f"{name} is {number}")
    return number


def encoded(values: Array, dtype: str) -> bytes:
    """Base64 of the numbers as this type."""
    return binascii.b2a_base64(np.ascontiguousarray(values, dtype).data, newline=False)


class LineFile:
    """A file of lines in the making. With `index`, the byte at which each line starts goes into a second file."""

    def __init__(self, path: Path, state: dict[str, int], index: Path | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._files = [opened(each, state.get(each.name, 0)) for each in (path, index) if each is not None]
        self._names = [each.name for each in (path, index) if each is not None]

    def write(self, *cells: bytes) -> None:
        file, *index = self._files
        for other in index:
            other.write(b"%d\n" % file.tell())
        file.write(b"\t".join(cells) + b"\n")

    def flush(self) -> dict[str, int]:
        """The length of each file, all of which is on disk: the state from which another LineFile goes on."""
        for file in self._files:
            file.flush()
            os.fsync(file.fileno())
        return {name: file.tell() for name, file in zip(self._names, self._files, strict=True)}

    def close(self) -> None:
        for file in self._files:
            file.close()


def opened(path: Path, length: int) -> BinaryIO:
    """A file of which so many bytes are kept, to write on from there."""
    file = path.open("r+b" if length else "w+b", buffering=BUFFER)
    file.truncate(length)
    file.seek(length)
    return file

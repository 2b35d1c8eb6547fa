"""Rows of Parquet and Arrow files without their pictures, and which of their columns the pictures are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from formats.datasets.opened import Data
from formats.pictures.columns import FILE_MAGIC
from formats.pictures.roots import File, Stream
from pairloom.errors import InputError

BATCH = 1024  # rows of a Parquet file in memory


@dataclass(frozen=True)
class Columns:
    """What a file of rows has."""

    schema: pa.Schema
    features: dict[str, Any]  # as `datasets` describes them in the file. None where it did not write it

    @property
    def pictures(self) -> list[str]:
        """The columns of pictures: those that the file says, else those of bytes or {bytes, path}."""
        said = [name for name, kind in self.features.items() if _is_image(kind)]
        return [name for name in said if name in self.schema.names] or [
            field.name for field in self.schema if _holds_bytes(field.type)
        ]

    def labels(self) -> dict[str, list[str]]:
        """The names of classes by column."""
        return {
            name: kind["names"]
            for name, kind in self.features.items()
            if isinstance(kind, dict) and kind.get("_type") == "ClassLabel" and kind.get("names")
        }


def _is_image(kind: Any) -> bool:
    return isinstance(kind, dict) and kind.get("_type") == "Image"


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        place = kind.get_field_index("bytes")
        return place >= 0 and _holds_bytes(kind.field(place).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def columns(data: Data, file: str) -> Columns:
    """Raises InputError if the file cannot be read."""
    with data.opened(file) as opened, _readable(data, file):
        schema = _schema(file, opened)
    facts = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    return Columns(schema, facts.get("info", {}).get("features", {}))


def _schema(file: str, opened: File) -> pa.Schema:
    if file.endswith(".parquet"):
        return pq.ParquetFile(pa.PythonFile(Stream(opened), "r")).schema_arrow
    with _arrow(opened) as reader:
        return reader.schema


def rows(data: Data, file: str, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Each row as a dict of these columns. Raises InputError if the file cannot be read to its end."""
    with data.opened(file) as opened, _readable(data, file):
        if file.endswith(".parquet"):
            table = pq.ParquetFile(pa.PythonFile(Stream(opened), "r"))
            for batch in table.iter_batches(BATCH, columns=list(names)):
                yield from batch.to_pylist() if names else ({} for _ in range(batch.num_rows))
        else:
            with _arrow(opened, names) as reader:
                for batch in reader:
                    yield from batch.to_pylist() if names else ({} for _ in range(batch.num_rows))


def _arrow(opened: File, names: Sequence[str] | None = None) -> Any:
    """The batches of an Arrow file or stream, of these columns alone. Of a local file the others are not read."""
    start = len(FILE_MAGIC) if opened.read(0, len(FILE_MAGIC)) == FILE_MAGIC else 0
    buffer = opened.view(start, opened.size - start)
    if names is None:
        return pa.ipc.open_stream(buffer)
    schema = pa.ipc.open_stream(buffer).schema
    options = pa.ipc.IpcReadOptions(included_fields=[schema.get_field_index(name) for name in names])
    return pa.ipc.open_stream(buffer, options=options)


class _readable:  # noqa: N801  # a context manager
    def __init__(self, data: Data, file: str) -> None:
        self._where = data.where(file)

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, pa.ArrowException):
            raise InputError(f"it cannot be read: {error}", self._where, "write the file again") from error

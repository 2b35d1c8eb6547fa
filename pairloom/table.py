"""What a table's schema is: columns with meaning, unit and shape, and the checks that hold them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pairloom.errors import SchemaError
from pairloom.foreign import storable_values

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Blob:
    """Little-endian numbers of one row packed into one binary value.

    Arrow reads such a value at 4 to 9 GB/s, and a list of half floats at 0.2 to 0.5 (measured: docs/lab/benchmarks.md).

    dtype: numpy name such as "<f2". shape: one entry a dimension. A number, the name of a column that
    holds the length, or the name of a key of the file's metadata that does. dtype_key: a key of the file's metadata
    that says another dtype, if it is there.
    """

    dtype: str
    shape: tuple[int | str, ...]
    dtype_key: str = ""

    @property
    def type(self) -> pa.DataType:
        return pa.large_binary()

    def number(self, metadata: Mapping[str, str] | None) -> np.dtype[Any]:
        """The numbers' type in a file of this metadata."""
        return np.dtype((metadata or {}).get(self.dtype_key, self.dtype))

    def pack(self, rows: list[Array], metadata: Mapping[str, str] | None = None) -> pa.Array:
        """One blob a row from arrays of any dtype. The caller has checked that the values fit."""
        offsets = np.concatenate([[0], np.cumsum([np.size(row) for row in rows], dtype=np.int64)]).astype("<i8")
        packed = np.empty(offsets[-1], self.number(metadata))  # once, in place: features are most of a shard
        for row, start, stop in zip(rows, offsets, offsets[1:], strict=False):
            packed[start:stop] = np.ravel(row)
        buffers = [None, pa.py_buffer(offsets * packed.itemsize), pa.py_buffer(packed)]
        return pa.Array.from_buffers(self.type, len(rows), buffers)

    def unpack(self, column: pa.ChunkedArray | pa.Array, metadata: Mapping[str, str] | None = None) -> list[Array]:
        """Flat, read-only views of each row's numbers. Reshape by the row's count. A null is an empty one."""
        dtype, none = self.number(metadata), pa.py_buffer(b"")
        return [np.frombuffer(value.as_buffer() or none, dtype=dtype) for value in column]

    def describe(self) -> str:
        dtype = f"{self.dtype_key} or {self.dtype}" if self.dtype_key else self.dtype
        return f"{dtype} [{', '.join(map(str, self.shape))}]"


def blob(dtype: str, *shape: int | str, dtype_key: str = "") -> Blob:
    """A column of packed numbers: `blob("<f4", "num_regions", 4)`."""
    return Blob(dtype, shape, dtype_key)


@dataclass(frozen=True)
class Column:
    """One column: its name, Arrow type (or blob), and what a value means, with its unit and range."""

    name: str
    type: pa.DataType | Blob
    meaning: str
    nullable: bool = False

    def field(self) -> pa.Field:
        kind = self.type.type if isinstance(self.type, Blob) else self.type
        return pa.field(self.name, kind, nullable=self.nullable)


@dataclass(frozen=True)
class Table:
    """One table: name, version, what a row is, and its columns. A changed meaning is a new version."""

    name: str
    version: int
    row: str
    columns: tuple[Column, ...]
    metadata: tuple[str, ...] = ()  # keys of the file's metadata, in every shard
    indexed: bool = False  # whether a shard has an index beside it (pairloom/store/index.py) and the folder a card

    def schema(self) -> pa.Schema:
        return pa.schema([column.field() for column in self.columns])

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    def table(self, metadata: Mapping[str, str] | None = None, **columns: Any) -> pa.Table:
        """Build a table of this schema from columns by name (Arrow arrays, lists, or numpy arrays for blobs).

        metadata: facts that a reader needs to unpack the blobs (for example `feature_width`). Text that UTF-8 can't
        hold is escaped (pairloom.foreign.storable).
        Raises SchemaError when a column is missing, unknown, of another type, or null where it may not be.
        """
        unknown = sorted(set(columns) - {column.name for column in self.columns})
        missing = sorted({column.name for column in self.columns if not column.nullable} - set(columns))
        if unknown or missing:
            raise SchemaError(
                f"table {self.name} was built with unknown columns {unknown} and without {missing}",
                where=f"schemas/{self.name}.py",
                fix="pass every column of the schema by its name",
            )
        length = len(next(iter(columns.values())))
        arrays = [self._array(column, columns.get(column.name), length, metadata) for column in self.columns]
        schema = self.schema()
        if metadata:
            schema = schema.with_metadata(dict(metadata))
        return self.check(pa.Table.from_arrays(arrays, schema=schema), where=f"schemas/{self.name}.py")

    def _array(
        self, column: Column, values: Any, length: int, metadata: Mapping[str, str] | None
    ) -> pa.Array | pa.ChunkedArray:
        kind = column.field().type
        if values is None:
            return pa.nulls(length, kind)
        if isinstance(values, pa.Array | pa.ChunkedArray):
            return values if values.type.equals(kind) else values.cast(kind)
        if isinstance(column.type, Blob) and len(values) and not isinstance(values[0], bytes | None):
            return column.type.pack(values, metadata)
        try:
            return pa.array(values, kind)
        except UnicodeEncodeError:  # half a surrogate pair in text that others wrote
            return pa.array(storable_values(list(values)), kind)

    def empty(self) -> pa.Table:
        return self.schema().empty_table()

    def check(self, table: pa.Table, where: str) -> pa.Table:
        """The table as it is if it has exactly this schema, else SchemaError naming column, row and cure."""
        wanted = self.schema()
        if not table.schema.equals(wanted, check_metadata=False):
            raise SchemaError(
                f"table {self.name} should have the columns\n{wanted}\nbut has\n{table.schema.remove_metadata()}",
                where=where,
                fix=f"re-run the stage that writes {self.name}, or read it with the pairloom version that wrote it",
            )
        for column in self.columns:
            if not column.nullable and table[column.name].null_count:
                row = table[column.name].is_null().index(True).as_py()
                raise SchemaError(
                    f"column {column.name} of table {self.name} is null in row {row}",
                    where=where,
                    fix="re-run the stage that writes it; if it happens again, report it as a bug",
                )
        return table


def metadata(table: pa.Table) -> dict[str, str]:
    """The file metadata of a table as text, without Arrow's own entries."""
    raw = table.schema.metadata or {}
    return {key.decode(): value.decode() for key, value in raw.items() if not key.startswith(b"ARROW:")}

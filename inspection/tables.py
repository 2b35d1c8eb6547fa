"""docs/reference/tables.md: every table with the meaning, unit and shape of its columns, written from schemas/."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import re
from collections.abc import Sequence

import pyarrow as pa

import schemas
from inspection.markdown import cell, wrapped
from pairloom.table import Blob, Column, Table

PAGE = "docs/reference/tables.md"

HEAD = """# Tables

Written by `python -m pipeline.pages` from `schemas/`. Edit those, not this page.

A table is a folder of numbered Parquet shards with their list, `_pairloom/manifest.json`. Shard N of every table
before `shards` holds the same images in the same order. `list<…>` and `struct<…>` are Arrow's. A type such as `<f4
[num_regions, 4]` is a **blob**: one `large_binary` value a row that holds that many little-endian numbers (`<f2`
float16, `<f4` float32, `<u2` unsigned 16-bit), read with `numpy.frombuffer(value, "<f4").reshape(-1, 4)`. A name in
its shape is a column of the same row or a key of the file's metadata. `?` marks what may be null.

{}
"""


def table_of(name: str) -> Table:
    """The table of that name in `schemas/`. Raises KeyError when there is none."""
    if name not in names():
        raise KeyError(name)
    table = getattr(importlib.import_module(f"schemas.{name}"), name.upper())
    assert isinstance(table, Table)
    return table


@functools.cache
def _names(folders: tuple[str, ...]) -> tuple[str, ...]:
    found = sorted(module.name for module in pkgutil.iter_modules(folders))
    return tuple(name for name in found if hasattr(importlib.import_module(f"schemas.{name}"), name.upper()))


def names() -> tuple[str, ...]:
    """Every table of `schemas/`, by the alphabet: a module there has the table of its name."""
    return _names(tuple(schemas.__path__))


def column_names(name: str) -> tuple[str, ...]:
    """The columns of the table of that name. None where there is no such table."""
    return tuple(column.name for column in table_of(name).columns) if name in names() else ()


def tables_markdown(first: Sequence[str]) -> str:
    """The whole page. The tables `first` in this order, then the others."""
    order = list(dict.fromkeys([*first, *names()]))
    links = ", ".join(f"[{name}](#{name})" for name in order)
    head = HEAD.format(wrapped(f"Tables: {links}. [Reasons](reasons.md) has the words of `quarantine.reason`."))
    return "\n".join([head, *(_section(table_of(name)) for name in order)])


def _section(table: Table) -> str:
    meanings = _field_meanings()
    lines = [f"## {table.name}", "", wrapped(f"Version {table.version}. One row is {table.row}."), ""]
    lines += ["| column | type | meaning |", "|---|---|---|"]
    for column in table.columns:
        lines.append(f"| `{column.name}`{'?' if column.nullable else ''} | {_type(column)} | {cell(column.meaning)} |")
        struct = _struct(column)
        for field in struct or ():
            name = f"{'&nbsp;' * 4}`{field.name}`{'?' if field.nullable else ''}"
            lines.append(f"| {name} | `{field.type}` | {cell(meanings.get((str(struct), field.name), ''))} |")
    if table.metadata:
        keys = ", ".join(f"`{key}`" for key in table.metadata)
        lines += ["", wrapped(f"Keys of the file's metadata: {keys}.")]
    return "\n".join([*lines, ""])


def _type(column: Column) -> str:
    if isinstance(column.type, Blob):
        return f"`{column.type.describe()}`"
    struct = _struct(column)
    kind = str(column.type)
    return f"`{kind.replace(str(struct), 'struct') if struct else kind}`"


def _struct(column: Column) -> pa.StructType | None:
    """The struct inside a column's lists, if it has one."""
    kind = column.type
    while not isinstance(kind, Blob) and pa.types.is_list(kind):
        kind = kind.value_type
    return kind if isinstance(kind, pa.StructType) else None


def _field_meanings() -> dict[tuple[str, str], str]:
    """What each struct field means: the comment on its own line of schemas/. Keys: the struct and the field's name."""
    meanings = {}
    for name in names():
        module = importlib.import_module(f"schemas.{name}")
        for variable, body in re.findall(
            r"^(\w+) = pa\.struct\(\n(.*?)^\)", inspect.getsource(module), re.DOTALL | re.MULTILINE
        ):
            comments = re.findall(r'pa\.field\("(\w+)".*\),  # (.+)$', body, re.MULTILINE)
            meanings.update({(str(getattr(module, variable)), field): comment for field, comment in comments})
    return meanings

"""The type of column `extra`: what a list says beside the columns that pairloom knows, as pairs of name and value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

# A list of structs opens in every reader of Parquet. Hugging Face datasets has no type for a map.
EXTRA = pa.list_(
    pa.struct([pa.field("name", pa.string(), nullable=False), pa.field("value", pa.string(), nullable=False)])
)


def as_extra(values: Mapping[str, str]) -> list[dict[str, str]]:
    """These values as a row of column `extra` holds them, in their order."""
    return [{"name": name, "value": value} for name, value in values.items()]


def as_dict(extra: Iterable[Any] | None) -> dict[str, str]:
    """A row of column `extra`, as `to_pylist` gives it, by name.

    Older tables (urls and pairs 1, shards to 5) hold a map, whose entries are pairs.
    """
    return dict((one["name"], one["value"]) if isinstance(one, dict) else one for one in extra or ())

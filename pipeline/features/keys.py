"""By which key each picture is exported: the user's own where there is one, else its image_id in hex."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from formats.features.keys import Seen
from formats.names import one_line
from pairloom.errors import ConfigError
from pairloom.extra import as_dict
from pairloom.store.folder import Folder

OWN = ("key", "image_id", "id")  # columns of the list that are taken where every picture of the first shard has them


def keys_of(folder: Folder, column: str | None) -> dict[str, list[str]]:
    """The keys of each shard's pictures, in their order.

    column: of the user's list (in `extra`), `source`, `url` or `image_id`; None: one of OWN, else `source` of regions
    that `pairloom extract` made, else `image_id`. Raises ConfigError where a picture has none, or two have the same.
    """
    tables = {name: _rows(folder, name) for name in (entry.name for entry in folder.shards)}
    chosen = column or _chosen(next(rows for rows in tables.values() if rows), folder.table)
    seen, found = Seen(), dict[str, list[str]]()
    for name, rows in tables.items():
        found[name] = [_key(row, chosen, folder, name, place) for place, row in enumerate(rows)]
        for place, key in enumerate(found[name]):
            if not seen.first(key):
                what = f"a second picture has the key {key!r}"
                raise ConfigError(what, _where(folder, name, place), "name a column that tells them apart with --key")
    return found


def _rows(folder: Folder, name: str) -> list[dict[str, Any]]:
    columns = ["image_id", "source"] + (["extra", "url"] if folder.table == "shards" else [])
    rows: list[dict[str, Any]] = folder.read(name, columns).to_pylist()
    return rows


def _chosen(rows: Sequence[Mapping[str, Any]], table: str) -> str:
    extras = [as_dict(row.get("extra")) for row in rows]
    own = next((name for name in OWN if all(extra.get(name) for extra in extras)), None)
    if own is None and table == "regions" and all(row["source"] for row in rows):
        return "source"
    return own or "image_id"


def _key(row: Mapping[str, Any], column: str, folder: Folder, name: str, place: int) -> str:
    if column == "image_id" and column not in as_dict(row.get("extra")):
        identity: bytes = row["image_id"]
        return identity.hex()
    value = as_dict(row.get("extra")).get(column) or row.get(column)
    if not value:
        what = f"a picture has no {column}, which was to be its key"
        raise ConfigError(what, _where(folder, name, place), "name another column with --key, such as image_id")
    text = str(value)
    if column == "source":  # a path: the picture's file without its ending, as LXMERT names pictures
        text = text[: text.rfind(".")] if "." in text else text
    return one_line(text)


def _where(folder: Folder, name: str, place: int) -> str:
    return f"{folder.file(name)}, row {place}"

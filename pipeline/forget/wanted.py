"""Which pictures and addresses are to be forgotten: what a file names, and what the tables say belongs to it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from inspection.dataset import Dataset
from pairloom.errors import InputError
from pairloom.store import tombstones
from pairloom.table import Array

KINDS = {"image_id": pa.binary(16), "url": pa.string()}  # columns that are compared


@dataclass(frozen=True)
class Wanted:
    """Ids of pictures (16 bytes), and addresses as the list has them."""

    images: frozenset[bytes]
    urls: frozenset[str]

    @property
    def hashes(self) -> list[str]:
        """Their tombstones."""
        return [*map(tombstones.of_image, self.images), *map(tombstones.of_url, self.urls)]

    def rows(self, table: pa.Table) -> Array:
        """bool of each row of a table that has image_id, url or both."""
        found = pa.array([False] * table.num_rows, pa.bool_())
        for name, values in (("image_id", pa.array(self.images, pa.binary(16))), ("url", pa.array(self.urls))):
            if name in table.column_names:
                found = pc.or_(found, pc.is_in(table[name], value_set=values.cast(table[name].type)))
        whole: Array = found.to_numpy(zero_copy_only=False) if isinstance(found, pa.Array) else found.to_numpy()
        return whole

    def rejects(self, table: pa.Table) -> Array:
        """bool of each row of a quarantine table: its key, or the row that it holds, is one of these."""
        keys = {*self.urls, *(image.hex() for image in self.images)}
        rows = zip(table["key"].to_pylist(), table["row"].to_pylist(), strict=True)
        found: Array = pa.array(
            [key in keys or not keys.isdisjoint(_named(row)) for key, row in rows], pa.bool_()
        ).to_numpy(zero_copy_only=False)
        return found


def read(file: Path) -> Wanted:
    """A file with an image_id in hex or an address a line. Empty lines and lines that begin with # say nothing.

    Raises InputError for a line that is neither.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"cannot read it: {said}", str(file), "name a text file with one id a line") from error
    images, urls = set[bytes](), set[str]()
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith("#"):
            continue
        if ":" in line:
            urls.add(line)
            continue
        try:
            image = bytes.fromhex(line)
        except ValueError:
            image = b""
        if len(image) != 16:
            fix = "write an image_id (32 hex digits) or an address as the list has it (https://…, coco:val2017/1.jpg)"
            raise InputError(f"this is no id: {line[:80]!r}", f"{file}, line {number}", fix)
        images.add(image)
    return Wanted(frozenset(images), frozenset(urls))


def resolved(asked: Wanted, found: Dataset) -> Wanted:
    """With the pictures that came from these addresses, and all addresses that these pictures came from.

    It reads all ids and addresses twice and keeps those that belong to these.
    """
    images = asked.images.union(image for image, _ in _pairs(found, "url", asked.urls))
    urls = asked.urls.union(url for _, url in _pairs(found, "image_id", images))
    return Wanted(images, urls)


def _pairs(found: Dataset, by: str, values: Set[Any]) -> Iterator[tuple[bytes, str]]:
    """(image_id, url) of every row that has both, where the column `by` has one of these values."""
    if not values:
        return
    wanted = pa.array(values, KINDS[by])
    for folder in found.tables.values():
        for entry in folder.shards:
            if set(KINDS) <= set(folder.schema(entry.name).names):
                table = folder.read(entry.name, list(KINDS))
                own = table.filter(pc.is_in(table[by], value_set=wanted.cast(table[by].type)))
                yield from zip(*(own[name].to_pylist() for name in KINDS), strict=True)
    for folder in found.rejects.values():
        for _, table in folder.tables(["row"]):
            for row in table["row"].to_pylist():
                image, url = (_fields(row).get(key) for key in KINDS)
                if isinstance(image, str) and isinstance(url, str):
                    pair = {"image_id": bytes.fromhex(image), "url": url}
                    if pair[by] in values:
                        yield bytes.fromhex(image), url


def _fields(row: str) -> dict[str, object]:
    try:
        said = json.loads(row)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _named(row: str) -> Iterable[str]:
    """The id and the address in a quarantined row."""
    said = _fields(row)
    return [value for key in ("image_id", "url") if isinstance(value := said.get(key), str)]

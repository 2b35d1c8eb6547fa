"""Pictures that a table of pairs holds as links: their bytes lie in a source, and are read from there when needed.

A linked row has no `image`. Its `url` is the locator, `sha256` that of the bytes, and `extra` has their number. Where
the sources lie is said in sources.yaml beside the table's folder, so nothing in the table depends on it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from formats.locators import Locator, parse
from formats.pictures import SourceError, Sources
from pairloom.errors import StoreError
from pairloom.extra import as_dict

LENGTH = "linked_bytes"  # name in `extra`
SOURCES = "sources.yaml"
NEEDED = ("image", "url", "sha256", "extra")  # columns without which a picture is not found
MOST_BYTES = 1 << 40  # the download had its own limit


def links(table: pa.Table) -> list[int]:
    """The rows whose picture is linked. A pair that came with its features alone has no SHA-256 either."""
    if not {"image", "sha256"} <= set(table.column_names) or not table["image"].null_count:
        return []
    rows: list[int] = pc.indices_nonzero(pc.and_(table["image"].is_null(), table["sha256"].is_valid())).to_pylist()
    return rows


def filled(table: pa.Table, folder: Path, kept: Path | None) -> tuple[pa.Table, dict[int, SourceError]]:
    """The table with the linked pictures' bytes, and of each row that has none any more what is wrong.

    folder: of the table. kept: for indexes of tars. Raises StoreError where nobody says where the sources lie.
    """
    rows = links(table)
    if not rows:
        return table, {}
    images: list[bytes | None] = table["image"].to_pylist()
    wrong: dict[int, SourceError] = {}
    sources = Sources(sources_of(folder), kept, MOST_BYTES)
    try:
        locators = [_locator(url, sources.folders) for url in table["url"].take(pa.array(rows)).to_pylist()]
        asked = [number for number, locator in enumerate(locators) if isinstance(locator, Locator)]
        wrong |= {rows[n]: each for n, each in enumerate(locators) if isinstance(each, SourceError)}
        for place, found in sources.read([each for each in locators if isinstance(each, Locator)]):
            row = rows[asked[place]]
            body = _the_same(found, table, row)
            if isinstance(body, SourceError):
                wrong[row] = body
            else:
                images[row] = body
    finally:
        sources.close()
    place = table.schema.get_field_index("image")
    column = pa.array(images, pa.large_binary())
    return table.set_column(place, table.schema.field(place), column), wrong


def _the_same(found: bytes | Exception, table: pa.Table, row: int) -> bytes | SourceError:
    if isinstance(found, SourceError):
        return found
    if isinstance(found, Exception):
        return SourceError("unreadable", f"{type(found).__name__}: {found}"[:300])
    if hashlib.sha256(found).digest() != table["sha256"][row].as_py():
        return SourceError("checksum", f"its {len(found):,} bytes are no longer those that were linked")
    return found


def missing(table: pa.Table, folder: Path, kept: Path | None) -> Iterator[tuple[int, SourceError]]:
    """(row, what is wrong) of each linked picture that is not there, or has another length. None of them is read.

    table: pairs, without their column `image`.
    """
    lengths = [as_dict(extra).get(LENGTH) for extra in table["extra"].to_pylist()]
    if not any(lengths):
        return
    sources = Sources(sources_of(folder), kept, MOST_BYTES)
    try:
        for row, (url, wanted) in enumerate(zip(table["url"].to_pylist(), lengths, strict=True)):
            if wanted is None:
                continue
            locator = _locator(url, sources.folders)
            found = locator if isinstance(locator, SourceError) else sources.size(locator)
            if isinstance(found, SourceError):
                yield row, found
            elif found is not None and found != int(wanted):
                yield row, SourceError("checksum", f"it has {found:,} bytes, and {int(wanted):,} were linked")
    finally:
        sources.close()


def _locator(url: str, folders: Mapping[str, str]) -> Locator | SourceError:
    found = parse(url, folders)
    return SourceError("not-found", f"{SOURCES} has no source {url.partition(':')[0]!r}") if found is None else found


def sources_of(folder: Path) -> dict[str, str]:
    """Where the sources of a table's linked pictures lie. Raises StoreError."""
    place = folder.parent / SOURCES
    fix = f"write there `sample: {{sources: {{NAME: FOLDER}}}}`, or run the download again, which writes {SOURCES}"
    try:
        said = yaml.safe_load(place.read_text(encoding="utf-8"))
        named: dict[str, str] = said["sample"]["sources"]
        return {str(name): str(each) for name, each in named.items()}
    except FileNotFoundError as error:
        raise StoreError("pictures are linked, and nobody says where they lie", str(place), fix) from error
    except (OSError, yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
        raise StoreError(f"where linked pictures lie cannot be read: {error!r}", str(place), fix) from error


def without(table: pa.Table, image_ids: Sequence[bytes]) -> pa.Table:
    """The table without the bytes of these images, which stay linked."""
    linked = pc.is_in(table["image_id"], pa.array(image_ids, pa.binary(16)))
    place = table.schema.get_field_index("image")
    column = pc.if_else(linked, pa.scalar(None, pa.large_binary()), table["image"])
    return table.set_column(place, table.schema.field(place), column)

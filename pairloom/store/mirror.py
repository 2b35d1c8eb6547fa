"""A folder of this machine that stands for an address: its manifests are there, and shards come when they are read.

So whatever looks at folders can look at a bucket. It is made anew for each command, since a copy that is kept would
have to be held to what the bucket has by then.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pairloom.errors import StoreError
from pairloom.store import counts
from pairloom.store.address import Address, named
from pairloom.store.bucket import PATIENCE_S, Bucket
from pairloom.store.folder import COMPANIONS, ORIGIN, is_table, origin_of
from pairloom.store.remote_tables import Published, published, tables_below, write_published


@contextmanager
def standing_for(address: Address, patience_s: float = PATIENCE_S) -> Iterator[Path]:
    """The folder, while the block lasts. Errors name the address in its place.

    Raises StoreError where there is no finished table at the address or below.
    """
    with tempfile.TemporaryDirectory(prefix="pairloom-") as temporary:
        root = Path(temporary) / address.bucket / address.path  # whose last names are what is shown of it
        found = list(tables_below(address, patience_s))
        if not found:
            fix = "name the address of a table or of a dataset; a push or a run that has not ended leaves no table"
            raise StoreError("there is no finished table here or below", str(address), fix)
        for below, table in found:
            if (there := published(table)) is not None:
                stand_in(root / below, table, there)
        with named(root, address):
            yield root


def leave(folder: Path, table: Path) -> None:
    """Let a folder of this machine stand for the finished table that lies behind `table`, for whoever looks here.

    Raises StoreError where the folder holds a table of its own.
    """
    origin = origin_of(table)
    there = None if origin is None else published(origin)
    if origin is None or there is None:
        raise StoreError("there is no finished table in a bucket", str(table), "run the stage at an address")
    if is_table(folder) and not (folder / ORIGIN).exists():
        raise StoreError(
            "the folder holds a table of its own", str(folder), f"move it away: {origin.where('')} is used"
        )
    for old in (*folder.glob("*.parquet"), folder / counts.NAME):
        old.unlink(missing_ok=True)
    stand_in(folder, origin, there)


def stand_in(folder: Path, table: Bucket, there: Published) -> None:
    """Make a folder that stands for one finished table."""
    write_published(folder, there)
    for name in (counts.NAME, *COMPANIONS):
        if (content := table.read(name)) is not None:
            (folder / name).write_bytes(content)
    (folder / ORIGIN).write_text(table.where(""), encoding="utf-8")

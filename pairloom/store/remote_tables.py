"""Tables in a bucket: which there are at an address, and what their manifests say."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pairloom.errors import StoreError
from pairloom.store.address import Address
from pairloom.store.bucket import Bucket
from pairloom.store.folder import ASIDE, MANIFEST, Folder, open_folder
from pairloom.store.manifest import LISTED

DEPTH = 3  # of folders that are looked through for tables: DATA/quarantine/STAGE


@dataclass(frozen=True)
class Published:
    """The manifest of a finished table as it lies in a bucket: its text, and the file that lists many shards."""

    text: bytes
    listing: tuple[str, bytes] | None = None  # name in ASIDE, content

    @property
    def files(self) -> dict[str, bytes]:
        """By their names below the table. The manifest is the last."""
        beside = {} if self.listing is None else {f"{ASIDE}/{self.listing[0]}": self.listing[1]}
        return {**beside, MANIFEST: self.text}


def published(table: Bucket) -> Published | None:
    """The manifest of the table at this address. None if there is none. Raises StoreError where its list is not whole.

    The two files are read one after the other, so a table that is exchanged meanwhile is read again.
    """
    where = ""
    for _ in range(2):
        if (text := table.read(MANIFEST)) is None:
            return None
        if (listed := _listed(text)) is None:
            return Published(text)
        name, sha256 = listed
        where = table.where(f"{ASIDE}/{name}")
        content = table.read(f"{ASIDE}/{name}")
        if content is not None and hashlib.sha256(content).hexdigest() == sha256:
            return Published(text, (name, content))
    what = "the file that lists the table's shards is missing or has another SHA-256"
    raise StoreError(what, where, "push the table again")


def _listed(text: bytes) -> tuple[str, str] | None:
    """(name, SHA-256) of the file that lists the shards, if the manifest needs one. What is no manifest has none."""
    try:
        listed = json.loads(text).get(LISTED)
        return None if listed is None else (Path(str(listed["file"])).name, str(listed["sha256"]))
    except (ValueError, AttributeError, KeyError, TypeError):
        return None  # whoever reads the manifest says what is wrong with it


def write_published(folder: Path, found: Published) -> None:
    """Put the manifest's files into a folder of this machine."""
    for name, content in found.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def described(there: Published) -> Folder:
    """What a manifest in a bucket says. Its path is of no use. Raises StoreError where it cannot be read."""
    with TemporaryDirectory() as temporary:
        write_published(Path(temporary), there)
        return open_folder(temporary)  # which reads the shards' list, too


def tables_below(address: Address, patience_s: float) -> Iterator[tuple[str, Bucket]]:
    """(path below the address, the table) of every finished table at or below it. "" is the address itself."""
    yield from _tables(Bucket(address, patience_s), "", DEPTH)


def _tables(root: Bucket, below: str, depth: int) -> Iterator[tuple[str, Bucket]]:
    table = Bucket(root.address / below if below else root.address, root.patience_s)
    if table.stored(MANIFEST) is not None:
        yield below, table
        return
    if not depth:
        return
    for name in table.folders():
        if not name.startswith((".", "_")):
            yield from _tables(root, f"{below}/{name}".strip("/"), depth - 1)

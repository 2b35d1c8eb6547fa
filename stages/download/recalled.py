"""Rows of shards that are being made again: what became of them is found by URL, so that only new rows are fetched.

`recall` notes where each old row lies, in 16 bytes. `take_over` reads those of a new shard, a row group at a time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pairloom.errors import StoreError
from pairloom.store.folder import Folder, open_folder
from schemas.quarantine import REASONS
from stages.contract import EARLIER
from stages.download.address import without_credentials
from stages.download.finished import SIZES, of_pair, of_reject
from stages.download.spool import Outcome, Spool, key_of

# Settings that say how long a row is tried: another value changes no picture that came and no failure for good.
PATIENCE = frozenset({"timeout_s", "header_timeout_s", "retries", "backoff_s", "max_wait_s", "max_host_s"})
URLS, PLACES, FILES = "urls.npy", "places.npy", "files.json"  # in folder/EARLIER: hashes in order, where they lie
PLACE = np.dtype([("file", "<u4"), ("row", "<u4")])
OF_PAIRS = ("url", "image_id", "sha256", "image", "extra", *SIZES)
OF_REJECTS = ("reason", "detail", "attempts", "row")

Row = tuple[str, str | None]  # url, checksum


def recall(settings: Mapping[str, Any], folder: Path) -> int:
    """Note where the rows of the shards in folder/EARLIER lie. How many are of use with these settings.

    The latest shards come first. A damaged one is left out, and its rows are fetched again.
    """
    earlier = folder / EARLIER
    files: list[str] = []
    urls, places = [np.empty(0, np.uint64)], [np.empty(0, PLACE)]
    for number in sorted((int(path.name) for path in earlier.iterdir() if path.is_dir()), reverse=True):
        pairs, rejects = (open_folder(earlier / str(number) / name) for name in ("table", "quarantine"))
        changed = {name for name, value in settings.items() if pairs.header.config.get(name, ...) != value}
        if changed <= PATIENCE:
            for file, hashes in (*_of_pairs(pairs), *_of_rejects(rejects, for_good=bool(changed))):
                urls.append(np.fromiter(hashes.values(), np.uint64, len(hashes)))
                places.append(np.array([(len(files), row) for row in hashes], PLACE))
                files.append(str(file.relative_to(earlier)))
    order = np.argsort(np.concatenate(urls))
    np.save(earlier / URLS, np.concatenate(urls)[order])
    np.save(earlier / PLACES, np.concatenate(places)[order])
    (earlier / FILES).write_text(json.dumps(files), encoding="utf-8")
    return len(order)


def take_over(rows: Iterable[Row], folder: Path, partial: Path) -> None:
    """Note in the spool of a shard what is known of its rows from before."""
    if (folder / EARLIER / FILES).exists():
        with Spool(partial) as spool:
            unknown = [row for row in dict.fromkeys(rows) if key_of(*row) not in spool]
            for key, outcome, picture in _recalled(unknown, folder / EARLIER):
                spool.add(key, outcome, picture)


def _recalled(rows: Sequence[Row], earlier: Path) -> Iterator[tuple[bytes, Outcome, bytes]]:
    """(spool.key_of, outcome, picture) of these rows, as far as that is known from before."""
    known, places = (np.load(earlier / name, mmap_mode="r") for name in (URLS, PLACES))
    hashes = np.array([_hash(url) for url, _ in rows], np.uint64)
    spans = zip(np.searchsorted(known, hashes), np.searchsorted(known, hashes, "right"), strict=True)
    files = json.loads((earlier / FILES).read_text(encoding="utf-8"))
    wanted: dict[int, dict[int, list[Row]]] = {}  # file -> row of it -> rows that may be the same
    for row, (first, last) in zip(rows, spans, strict=True):
        for file, position in places[first:last].tolist():
            wanted.setdefault(file, {}).setdefault(position, []).append(row)
    open_rows = set(rows)
    for number in sorted(wanted):
        for row, outcome, picture in _read(earlier / files[number], wanted[number]):
            if row in open_rows:
                open_rows.remove(row)
                yield key_of(*row), outcome, picture


def _of_pairs(pairs: Folder) -> Iterator[tuple[Path, dict[int, int]]]:
    """(file, row -> hash of its URL) of each shard of pictures."""
    for entry in pairs.shards:
        table = _whole(pairs, entry.name, ["url"])
        yield pairs.file(entry.name), {row: _hash(url) for row, url in enumerate(table["url"].to_pylist())}


def _of_rejects(rejects: Folder, for_good: bool) -> Iterator[tuple[Path, dict[int, int]]]:
    """The same of each shard of the quarantine. for_good: only of rows that trying again would not help."""
    for entry in rejects.shards:
        table = _whole(rejects, entry.name, ["key", "reason"])
        listed = enumerate(zip(table["key"].to_pylist(), table["reason"].to_pylist(), strict=True))
        yield (
            rejects.file(entry.name),
            {row: _hash(key) for row, (key, reason) in listed if not (for_good and REASONS[reason][1])},
        )


def _whole(folder: Folder, name: str, columns: Sequence[str]) -> pa.Table:
    try:
        return folder.read(name, columns)
    except StoreError:
        return pa.table({column: pa.array([], pa.string()) for column in columns})


def _hash(url: str) -> int:
    text = without_credentials(url).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def _read(file: Path, wanted: Mapping[int, Iterable[Row]]) -> Iterator[tuple[Row, Outcome, bytes]]:
    """(row, outcome, picture) of the wanted rows that are what the file says. Nothing of what is damaged in it."""
    of_rejects = file.parent.name == "quarantine"
    for position, stored in _rows(file, np.array(sorted(wanted)), OF_REJECTS if of_rejects else OF_PAIRS):
        for url, checksum in wanted[position]:
            if of_rejects:
                listed = json.loads(stored["row"])
                if (listed["url"], listed["checksum"]) == (without_credentials(url), checksum):
                    yield (url, checksum), of_reject(stored), b""
            elif stored["url"] == url and _agrees(checksum, stored):
                yield (url, checksum), *of_pair(stored)


def _rows(file: Path, positions: npt.NDArray[np.int64], columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(position, row) of these rows of a shard. One row group is in memory at a time."""
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
            start = 0
            for group in range(parquet.num_row_groups):
                end = start + parquet.metadata.row_group(group).num_rows
                here = positions[(positions >= start) & (positions < end)]
                if len(here):
                    table = parquet.read_row_group(group, columns=list(columns)).take(pa.array(here - start))
                    yield from zip(here.tolist(), table.to_pylist(), strict=True)
                start = end
    except (OSError, pa.ArrowException):
        return


def _agrees(checksum: str | None, stored: Mapping[str, Any]) -> bool:
    """Whether a picture is the one that the list means. An MD5 can be checked only of bytes stored as they came."""
    if not checksum:
        return True
    name, _, wanted = checksum.strip().lower().partition(":")
    sha256, image = stored["sha256"], stored["image"]
    if name == "sha256":
        return wanted == bytes(sha256).hex()
    if image is None:
        return False  # it is linked, and read again
    as_it_came = hashlib.sha256(image).digest() == sha256
    return name == "md5" and as_it_came and hashlib.md5(image, usedforsecurity=False).hexdigest() == wanted

"""What img2dataset wrote: tars, folders, TFRecords, or Parquet with the pictures. Failures come with reasons of ours.

Each shard NNNNN has NNNNN_stats.json when it is finished, and NNNNN.parquet with a row for each URL that was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from formats import earlier
from formats.datasets import rowfiles
from formats.datasets.folder import PICTURES, URL
from formats.datasets.opened import Data
from formats.lists.bad import Bad
from formats.lists.urls import Row, pair_of
from formats.pictures.roots import Stream
from formats.pictures.tar import members

ABOVE = ("webdataset", "folder", "hf")
STATS = re.compile(r"(.*/|)(\d+)_stats\.json")
SHARD = re.compile(r"(.*/|)(\d+)\.(tar|parquet|tfrecord)")
OWN = ("status", "error_message", "txt")  # columns of its own that are not carried along
# What its `error_message` says -> a reason of schemas/quarantine.py. The first that fits.
FAILURES = (
    (r"HTTP Error (404|410)\b", "not-found"),
    (r"HTTP Error (408|425)\b", "http-again"),
    (r"HTTP Error 429\b", "rate-limited"),
    (r"HTTP Error 5\d\d\b", "http-5xx"),
    (r"HTTP Error", "http-4xx"),
    (r"X-Robots-Tag", "opt-out"),
    (r"hash mismatch", "checksum"),
    (r"unknown url type|no host given", "scheme-refused"),
    (r"Name or service|name resolution|No address associated|getaddrinfo|nodename", "dns"),
    (r"(?i)timed? ?out", "timeout"),
    (r"(?i)ssl|certificate", "tls"),
    (r"(?i)infinite loop|redirect", "redirect-limit"),
    (r"(?i)urlopen error|connection|remote end closed|IncompleteRead|unreachable|Errno", "connect"),
    (r"image too small", "image-size"),
    (r"image area too large", "pixel-limit"),
    (r"aspect ratio too large", "image-aspect"),
)


def recognise(data: Data) -> str | None:
    found = next((file for file in data.files if STATS.fullmatch(file)), None)
    return f"it has {found}" if found else None


def rows(data: Data) -> Iterator[Row]:
    finished = [file.removesuffix("_stats.json") for file in data.files if STATS.fullmatch(file)]
    yield from _unfinished(data, set(finished))
    for shard in finished:
        yield from _of_shard(data, shard)


def _unfinished(data: Data, finished: set[str]) -> Iterator[Row]:
    """A row that cannot be read for each shard that img2dataset did not finish. Its own run would make it again."""
    begun = {found[1] + found[2] for file in data.files if (found := SHARD.fullmatch(file))}
    for shard in sorted(begun - finished):
        said = f"shard {shard} has no {shard}_stats.json: img2dataset did not finish it, and it is left out"
        yield shard, 1, Bad(shard, said, "let img2dataset finish it: the same command again")


def reason_of(status: str, message: str) -> str:
    """Our word for why a row of img2dataset failed."""
    for pattern, reason in FAILURES:
        if re.search(pattern, message):
            return reason
    return "damaged-image" if status == "failed_to_resize" else "stage-error"


def _of_shard(data: Data, shard: str) -> Iterator[Row]:
    file = f"{shard}.parquet"
    if file not in data.listed:
        said = f"shard {shard} has no {file}: what it holds is not known"
        yield file, 1, Bad(shard, said, "let img2dataset make it again, or import it --as webdataset")
        return
    known = rowfiles.columns(data, file)
    place = _places(data, shard, known.pictures)
    names = [name for name in known.schema.names if name not in known.pictures and name not in data.columns.drop]
    for number, row in enumerate(rowfiles.rows(data, file, names)):
        yield file, number + 1, _row(data, row, place(number, row.get("key")))


def _row(data: Data, row: dict[str, Any], locator: str) -> Any:
    status, message = row.get("status"), row.get("error_message") or ""
    record = {name: value for name, value in row.items() if name not in OWN}
    if data.columns.captions == ("caption",) and "caption" not in record:
        record["caption"] = row.get("txt")
    if status == "success":
        return pair_of({**record, URL: locator}, URL, [], data.columns)
    record[earlier.REASON] = reason_of(status or "", message)
    record[earlier.DETAIL] = f"img2dataset: {status}, {message}"
    return pair_of(record, "url", [], data.columns)


def _places(data: Data, shard: str, pictures: list[str]) -> Any:
    """(number, key) -> locator, by what lies beside the shard's Parquet file. Raises InputError if nothing does."""
    if f"{shard}.tar" in data.listed:
        ending = _ending_in_tar(data, f"{shard}.tar")
        return lambda number, key: data.locator(f"{shard}.tar", f"{key}.{ending}")
    beside = next((f for f in data.files if f.startswith(f"{shard}/") and f.lower().endswith(PICTURES)), None)
    if beside is not None:
        ending = beside.rpartition(".")[2]
        return lambda number, key: data.locator(shard, f"{key}.{ending}")
    if pictures:
        return lambda number, key: data.locator(f"{shard}.parquet", str(number), pictures[0])
    if f"{shard}.tfrecord" in data.listed:
        ending = _name_in_records(data, f"{shard}.tfrecord")
        return lambda number, key: data.locator(f"{shard}.tfrecord", str(key), ending)
    return lambda number, key: data.locator(shard, f"{key}.jpg")  # no picture came: there is no success either


def _ending_in_tar(data: Data, file: str) -> str:
    with data.opened(file) as opened:
        names = (member.name for member in members(Stream(opened)))
        found = next((name for name in names if name.lower().endswith(PICTURES)), "x.jpg")
    return found.rpartition(".")[2]


def _name_in_records(data: Data, file: str) -> str:
    """Under which name the records have their pictures: `encode_format` of img2dataset."""
    from formats.pictures.tfrecord import first_names  # numba takes half a second to import

    with data.opened(file) as opened:
        names = first_names(opened)
    return next((name for name in names if f".{name}" in PICTURES), "jpg")

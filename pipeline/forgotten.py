"""What was forgotten stays out: rows of a list by their address, and pictures that come again by another one."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from formats.lists import Part
from pairloom.store import tombstones
from stages.rejects import Reject, quarantine

PAIRED = ("image_id", "url")  # columns of what a stage makes of addresses


class Remembered:
    """The parts of a list without the rows that have a tombstone, which are counted."""

    def __init__(self, parts: Iterable[Part], hashes: frozenset[str]) -> None:
        self._parts, self._hashes = parts, hashes
        self.left_out = 0

    def __iter__(self) -> Iterator[Part]:
        if not self._hashes:
            yield from self._parts
            return
        seen, gone = 0, list[int]()  # rows so far, and which of them were left out
        for part in self._parts:
            out = [tombstones.of_url(url) in self._hashes for url in part.rows["url"].to_pylist()]
            gone += [seen + row for row, is_out in enumerate(out) if is_out]
            seen, self.left_out = seen + len(out), len(gone)
            rows = part.rows.filter(pa.array([not is_out for is_out in out], pa.bool_()))
            # a bad row belongs to the good row before it: how many of these come before it has changed
            yield Part(rows, tuple(replace(bad, after=bad.after - bisect_left(gone, bad.after)) for bad in part.bad))


def without_forgotten(stage: str, rows_in: pa.Table, output: pa.Table, data: Path) -> tuple[pa.Table, pa.Table]:
    """(the rows to keep, rejects for the others): pictures with a tombstone, where a stage makes rows with pictures

    of rows without. Another address may lead to a picture that was forgotten.
    """
    nothing = quarantine(stage, ())
    if "image_id" in rows_in.column_names or not {*PAIRED} <= {*output.column_names}:
        return output, nothing
    hashes = tombstones.read(data)
    if not hashes:
        return output, nothing
    out = [tombstones.of_image(image) in hashes for image in output["image_id"].to_pylist()]
    if not any(out):
        return output, nothing
    urls = output["url"].filter(pa.array(out)).to_pylist()
    again = [Reject(url, "forgotten", "the picture was to be forgotten", {"url": url}) for url in urls]
    return output.filter(pa.array([not each for each in out])), quarantine(stage, again)

"""What a dataset was told to forget: a hash of each picture and address, so that no later run brings them back.

`forgotten.txt` in a dataset's folder has one SHA-256 a line, in order. Who has the file cannot read from it what was
forgotten, but can tell whether a picture or an address was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from pairloom.errors import StoreError
from pairloom.store.scratch import behind
from pairloom.store.writing import replace_text

NAME = "forgotten.txt"
IN_WORK = ".forget"  # a folder that is there while rows are being taken out


def of_url(url: str) -> str:
    return hashlib.sha256(b"url\0" + url.encode("utf-8", "surrogatepass")).hexdigest()


def of_image(image_id: bytes) -> str:
    return hashlib.sha256(b"image\0" + image_id).hexdigest()


def read(data: Path) -> frozenset[str]:
    """The hashes of a dataset's tombstones. None where nothing was forgotten."""
    file = data / NAME
    return frozenset(file.read_text(encoding="ascii").split()) if file.exists() else frozenset()


def add(data: Path, hashes: Iterable[str]) -> None:
    known = read(data)
    together = sorted(known.union(hashes))
    if len(together) > len(known):
        replace_text(data / NAME, "\n".join(together) + "\n")


def refuse_half_forgotten(data: Path) -> None:
    """Raise StoreError if `pairloom forget` was interrupted in this dataset."""
    scratch = behind(data)
    if (data / IN_WORK).exists() or (scratch is not None and scratch.bucket.objects(IN_WORK)):
        raise StoreError(
            "rows are being taken out of this dataset, or were until the process died",
            where=str(data / IN_WORK),
            fix=f"run `pairloom forget {data}` to finish that",
        )

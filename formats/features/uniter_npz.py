"""UNITER's npz files, one a picture, named by it (formats/features/uniter.py says what they hold)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from formats.features import arrays, uniter
from formats.features.files import below
from formats.features.record import Bad, Record, Vocabularies, bad_of
from formats.features.writing import Files

NEEDS = ("class_scores",)
STORED = "<f2"
Writer = Files


def read(path: Path, floats: str = "") -> Iterator[Record | Bad]:
    """All files of a folder, or one. floats is not needed: each array says its own."""
    for file in below(path, ".npz"):
        try:
            yield uniter.record_of(arrays.read_npz(file), file.stem)
        except arrays.DAMAGE as error:
            yield bad_of(error, file.stem, str(file))


def entry(record: Record, words: Vocabularies) -> tuple[tuple[str, bytes]]:
    """(name, content) of a picture's file."""
    return ((f"{record.key}.npz", arrays.npz_bytes(uniter.arrays_of(record))),)

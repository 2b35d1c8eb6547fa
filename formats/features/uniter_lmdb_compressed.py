"""UNITER's LMDB of compressed npz files. All else as formats/features/uniter_lmdb.py says."""

from __future__ import annotations

from formats.features import uniter_lmdb
from formats.features.record import Record, Vocabularies
from formats.features.uniter_lmdb import NEEDS, STORED, read

__all__ = ["COSTLY", "NEEDS", "STORED", "Writer", "entry", "read"]

COSTLY = True


def entry(record: Record, words: Vocabularies) -> tuple[str, bytes, bytes]:
    return uniter_lmdb.entry(record, words, compressed=True)


class Writer(uniter_lmdb.Writer):
    """FOLDER/feat_th0.2_max100_min10_compressed and FOLDER/nbb_….json."""

    COMPRESSED = True

"""The LMDB of jiasenlu/vilbert_beta, whose reader wants base64. All else as formats/features/vilbert_lmdb.py says."""

from __future__ import annotations

from formats.features import vilbert_lmdb
from formats.features.record import Record, Vocabularies
from formats.features.vilbert_lmdb import NEEDS, STORED, Writer, read

__all__ = ["NEEDS", "STORED", "Writer", "entry", "read"]


def entry(record: Record, words: Vocabularies) -> tuple[str, bytes]:
    return vilbert_lmdb.entry(record, words, as_base64=True)

"""The LMDB of jiasenlu/vilbert_beta, whose reader wants base64; all else as formats/features/vilbert_lmdb.py says."""

from __future__ import annotations

from formats.features import vilbert_lmdb
from formats.features.vilbert_lmdb import NEEDS, STORED, read

__all__ = ["NEEDS", "STORED", "Writer", "read"]


class Writer(vilbert_lmdb.Writer):
    """FOLDER/features.lmdb."""

    BASE64 = True

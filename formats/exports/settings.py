"""What an export of pairs may be asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How pairs are written. A layout takes what it has a place for."""

    name: str = "pairloom"  # of the collection, in file names and cards
    shard_bytes: int = 256 << 20  # of a tar or a Parquet file
    with_features: bool = False  # boxes, classes, scores and features of the regions go along
    energon: bool = False  # .nv-meta beside the tars
    vocabulary: str = ""  # path of BERT's vocab.txt, for UNITER's text database
    classes: Sequence[str] = ()  # names of the detector's classes
    attributes: Sequence[str] = ()  # and of its attributes

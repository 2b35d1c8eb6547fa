"""The settings of stage `sample`: which list, and how its columns are called."""

from __future__ import annotations

from dataclasses import dataclass

from formats.lists.columns import ListColumns
from pairloom.typed import Positive, check_ranges


@dataclass(frozen=True, kw_only=True)
class Config(ListColumns):
    """Section `sample` of params.yaml."""

    # a list (csv, tsv, txt, json, jsonl, parquet; .gz, .bz2, .xz, .zst too), a folder of them; a path of this
    # machine or of fsspec, such as s3://bucket/list.parquet; a demo's description; or "demo", the demo that ships
    urls: str = "demo"
    rows_per_shard: Positive = 1000  # rows of the list that make a shard of every table before `shards`

    unite: bool = True  # rows of one URL become one row with the captions of all, so that a picture is fetched once

    def __post_init__(self) -> None:
        check_ranges(self)
        super().__post_init__()

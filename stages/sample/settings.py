"""The settings of stage `sample`: which list, and how its columns are called."""

from __future__ import annotations

from dataclasses import dataclass

from formats.lists.columns import ListColumns
from pairloom.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Config(ListColumns):
    """Section `sample` of params.yaml."""

    # a list (csv, tsv, txt, json, jsonl, parquet; .gz, .bz2, .xz, .zst too), a folder of them; a path of this
    # machine or of fsspec, such as s3://bucket/list.parquet; a demo's description; or "demo", the demo that ships
    urls: str = "demo"
    rows_per_shard: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rows_per_shard < 1:
            raise ConfigError(
                f"sample.rows_per_shard is {self.rows_per_shard}", where="params.yaml", fix="set it to 1 or more"
            )

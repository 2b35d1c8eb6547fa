"""The settings of stage `sample`: which list, and how its columns are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from formats import locators
from formats.lists.columns import ListColumns
from pairloom.errors import ConfigError
from pairloom.typed import Positive, check_ranges


@dataclass(frozen=True, kw_only=True)
class Config(ListColumns):
    """Section `sample` of params.yaml."""

    # a list (csv, tsv, txt, json, jsonl, parquet; .gz, .bz2, .xz, .zst too), a folder of them. A path of this
    # machine or of fsspec, such as s3://bucket/list.parquet. A demo's description, or "demo", the demo that ships
    urls: str = "demo"
    # rows of the list in a shard of every table before `shards`; from 1,000 to 10,000 for lists of millions
    rows_per_shard: Positive = 1000

    # what `urls` is, if no list: a data set by its format (docs/how-to/import.md): coco, folder, webdataset, …
    format: str | None = None
    # name -> folder or address (s3://bucket/folder) of pictures that rows name as NAME:PATH; of a format, where its
    # pictures lie is the first of them; none: `urls`, under the format's name
    sources: Mapping[str, str] = field(default_factory=dict, metadata={"affects_output": False})

    unite: bool = True  # rows of one URL become one row with the captions of all, so that a picture is fetched once

    def __post_init__(self) -> None:
        check_ranges(self)
        super().__post_init__()
        for name in self.sources:
            if not locators.is_name(name):
                fix = "name it with small letters, digits, - and _, and not as a scheme of URLs"
                raise ConfigError(f"sample.sources has the name {name!r}", "params.yaml", fix)

    def places(self) -> tuple[tuple[str, str], ...]:
        """Name and absolute place of each source, those that rows of this list may name."""
        named = dict(self.sources)
        if self.format and not named:
            place = self.urls if "://" in self.urls or not Path(self.urls).is_file() else str(Path(self.urls).parent)
            named = {self.format: place}
        return tuple((name, place if "://" in place else str(Path(place).absolute())) for name, place in named.items())

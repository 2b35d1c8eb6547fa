"""Stage `sample`: the list of pairs to fetch, the user's own or that of the project's photographs and composed scenes.

`rows` gives the whole list as table `urls`; the pipeline cuts it into shards.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from demo.folder import clear
from formats.lists import read
from stages.sample.settings import Config

__all__ = ["Config", "is_demo", "read", "rows"]

DEMO = (".yaml", ".yml")


def is_demo(urls: str) -> bool:
    """Whether this names a demo's description, and not a list."""
    return Path(urls).suffix.lower() in DEMO


def rows(config: Config, folder: Path) -> pa.Table:
    """The list that config.urls names, as table `urls` in list order; a demo's pictures are drawn into `folder`.

    For a list of the user's, `folder` is left with nothing to serve. Raises InputError, see `read`.
    """
    if is_demo(config.urls):
        from demo.draw import draw  # needs the extra `demo`

        return draw(Path(config.urls), folder)
    table = pa.concat_tables(read(config.urls, config, config.rows_per_shard))
    clear(folder)
    return table

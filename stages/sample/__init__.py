"""Stage `sample`: the list of pairs to fetch, the user's own or that of the project's photographs and composed scenes.

`rows` gives the whole list as table `urls`; the pipeline cuts it into shards.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from demo.folder import DESCRIPTION, clear
from formats.lists import read
from stages.sample.settings import Config

__all__ = ["VERSION", "Config", "description", "is_demo", "read", "rows"]

VERSION = 1  # raise it when the same list gives another table
DEMO = "demo"  # names the demo that ships, wherever pairloom is installed; ./demo is a folder of lists
DESCRIPTIONS = (".yaml", ".yml")


def is_demo(urls: str) -> bool:
    """Whether this names a demo or its description, and not a list."""
    return urls == DEMO or Path(urls).suffix.lower() in DESCRIPTIONS


def description(urls: str) -> Path:
    """The description of a demo: the file of that path, or the one that ships."""
    return DESCRIPTION if urls == DEMO else Path(urls)


def rows(config: Config, folder: Path) -> pa.Table:
    """The list that config.urls names, as table `urls` in list order; a demo's pictures are drawn into `folder`.

    For a list of the user's, `folder` is left with nothing to serve. Raises InputError, see `read`.
    """
    if is_demo(config.urls):
        from demo.draw import draw  # needs the extra `demo`

        return draw(description(config.urls), folder)
    table = pa.concat_tables(read(config.urls, config, config.rows_per_shard))
    clear(folder)
    return table

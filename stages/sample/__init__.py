"""Stage `sample`: the list of pairs to fetch, the user's own or that of the project's photographs and composed scenes.

`rows` gives the whole list as table `urls`; the pipeline cuts it into shards.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from demo.draw import clear, draw
from formats.lists import read
from stages.sample.settings import Config

__all__ = ["Config", "draw", "read", "rows"]

DEMO = (".yaml", ".yml")


def rows(config: Config, folder: Path) -> pa.Table:
    """The list that config.urls names, as table `urls` in list order; a demo's pictures are drawn into `folder`.

    For a list of the user's, `folder` is left with nothing to serve. Raises InputError, see `read`.
    """
    path = Path(config.urls)
    if path.suffix.lower() in DEMO:
        return draw(path, folder)
    table = pa.concat_tables(read(config.urls, config, config.rows_per_shard))
    clear(folder)
    return table

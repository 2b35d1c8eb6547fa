"""Stage `sample`: the list of pairs to fetch, the user's own or that of the project's photographs and composed scenes.

`parts` gives the list as table `urls`, a few rows at a time; the pipeline writes them as shards.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from demo.folder import DESCRIPTION, clear
from formats.lists import Part, read
from stages.sample.settings import Config

__all__ = ["VERSION", "Config", "description", "is_demo", "parts", "read"]

VERSION = 1  # raise it when the same list gives another table
DEMO = "demo"  # names the demo that ships, wherever pairloom is installed; ./demo is a folder of lists
DESCRIPTIONS = (".yaml", ".yml")


def is_demo(urls: str) -> bool:
    """Whether this names a demo or its description, and not a list."""
    return urls == DEMO or Path(urls).suffix.lower() in DESCRIPTIONS


def description(urls: str) -> Path:
    """The description of a demo: the file of that path, or the one that ships."""
    return DESCRIPTION if urls == DEMO else Path(urls)


def parts(config: Config, folder: Path) -> Iterator[Part]:
    """The list that config.urls names, in list order; a demo's pictures are drawn into `folder`.

    For a list of the user's, `folder` is left with nothing to serve. Raises InputError, see `read`.
    """
    if is_demo(config.urls):
        from demo.draw import draw  # needs the extra `demo`

        yield Part(draw(description(config.urls), folder))
        return
    clear(folder)
    yield from read(config.urls, config, config.rows_per_shard)

"""Stage `sample`: the list of pairs to fetch, the user's own or that of the project's photographs and composed scenes.

`parts` gives the list as table `urls`, a few rows at a time. The pipeline writes them as shards.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from demo.folder import DESCRIPTION, TRUTHS, clear
from formats import datasets
from formats.datasets.opened import Data
from formats.datasets.truth import Truths
from formats.lists import Part, read
from formats.lists.urls import parts as in_parts
from formats.pictures import open_root
from stages.contract import kept_in
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
    """The list that config.urls names, in list order. A demo's pictures are drawn into `folder`.

    For a list of the user's, `folder` is left with nothing to serve. Raises InputError, see `read`.
    """
    if is_demo(config.urls):
        from demo.draw import draw  # needs the extra `demo`

        yield Part(draw(description(config.urls), folder))
        return
    clear(folder)
    if config.format is None:
        yield from read(config.urls, config, config.rows_per_shard)
        return
    truths = Truths(folder / TRUTHS)
    try:
        rows = datasets.read(config.format, data(config, folder, truths))
        yield from in_parts(rows, config.rows_per_shard, config.urls)
    finally:
        truths.close()


def data(config: Config, folder: Path, truths: Truths | None = None) -> Data:
    """The data set that config.urls names, not yet read."""
    name, place = config.places()[0]
    return Data(config.urls, name, open_root(place), config, truths, kept_in(folder.parent))

"""Parts of benchmarks/scale.py: a list of many rows is cut into shards, and a loader opens many shards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def cutting(rows: int, folder: Path) -> Callable[[], None]:
    """a csv list of so many rows, cut into shards of 10,000, with the search for rows of one URL"""
    from benchmarks.lists import write_csv
    from pipeline.listing import write_list
    from stages.sample import Config, parts

    write_csv(folder / "list.csv", rows)
    config = Config(urls=str(folder / "list.csv"), rows_per_shard=10_000)

    def work() -> None:
        write_list(parts(config, folder / "sample"), config, folder / "data", redo=False, plain=True)

    return work


def opening(shards: int, folder: Path) -> Callable[[], None]:
    """a loader on so many shards, up to the order of all rows, by what the folder says of their sizes"""
    from benchmarks.loader_opening import many
    from pairloom.loader.options import Options
    from pairloom.loader.order import Order
    from pairloom.loader.rows import open_rows

    place = str(many(folder, shards))
    options = Options(cache=folder / "cache")

    def work() -> None:
        rows = open_rows(place, "train", ("captions", "image_id"), ("en",), options)
        print(len(Order(0, rows.sizes(), 8)), "rows")

    return work

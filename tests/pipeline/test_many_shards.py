"""Tables whose shards pass 99,999: they are in the order of the numbers, also where a table grows."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from pairloom.store.folder import Header, open_folder
from pairloom.store.names import shard_name
from pairloom.store.writing import Writer, write_shard
from pipeline.config import RunConfig
from pipeline.executor import Options, run_stage
from schemas.urls import URLS
from tests.pipeline.helpers import hashes, table_of
from tests.pipeline.words import Config

STAGE = "tests.pipeline.words"
INLINE = Options(RunConfig(cluster="inline"), plain=True)
FIRST = 99_998  # as the last ones of a list of 100,000 shards: those before them would take a minute
TEXTS = ["a", "bb", "reject", "cccc", "ddddd", "eeeeee"]


def listed(texts: list[str], data: Path) -> None:
    """A list of shards with one row each. What is there already stays."""
    writer = Writer.open(data / "urls", Header(URLS.name, URLS.version, "sample", 1, {}))
    kept = list(writer.names) if writer.complete else []
    writer.begin(kept)
    rows: pa.Table = table_of(texts)
    for place in range(len(kept), len(texts)):
        writer.record(write_shard(data / "urls", shard_name(FIRST + place), rows.slice(place, 1)))
    writer.finish()


def test_a_stage_goes_on_past_99999_in_the_order_of_the_list(tmp_path: Path) -> None:
    data = tmp_path / "data"
    listed(TEXTS[:4], data)
    assert run_stage(STAGE, Config(), data, INLINE).made == 4
    assert run_stage(STAGE, Config(), data, INLINE).made == 0
    listed(TEXTS, data)
    assert run_stage(STAGE, Config(), data, INLINE).made == 2
    table = open_folder(data / "words")
    assert table.shards.column("name") == ["99998", "99999", "100000", "100001", "100002", "100003"]
    letters = [row for _, one in table.tables() for row in one["letters"].to_pylist()]
    assert letters == [len(text) for text in TEXTS if text != "reject"]
    assert open_folder(data / "quarantine/words").shards.column("name") == ["100000"]

    again = tmp_path / "again"
    listed(TEXTS, again)
    run_stage(STAGE, Config(), again, INLINE)
    assert hashes(again) == hashes(data)

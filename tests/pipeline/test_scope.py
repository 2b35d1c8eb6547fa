"""Which shards are made again when the list grows, where a stage's settings decide what a shard depends on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pairloom.store.folder import open_folder
from pipeline.config import RunConfig
from pipeline.executor import Options, run_stage
from schemas.pairs import PAIRS
from stages import curate
from tests.building import numbered, write_table
from tests.pipeline.helpers import hashes
from tests.stages.curate.test_curate import row, table


def texts(data: Path, captions: list[list[str]], **settings: Any) -> list[list[str]]:
    """The captions that curate keeps of one image a shard."""
    shards = [table([row(number, *own, number=number)], f"{number:05d}") for number, own in enumerate(captions)]
    write_table(data / "download", PAIRS, numbered(shards), "download")
    config = curate.Config(max_distance=None, **settings)
    run_stage("curate", config, data, Options(RunConfig(cluster="inline"), plain=True))
    kept = [item["captions"] for _, shard in open_folder(data / "curate").tables() for item in shard.to_pylist()]
    return [[caption["text"] for caption in item] for item in kept]


@pytest.mark.parametrize("counted", ["corpus", "so-far"])
def test_a_longer_list_makes_finished_shards_again_only_where_the_corpus_counts(counted: Any, tmp_path: Path) -> None:
    one, other, third = ["a", "stock photo"], ["b", "stock photo"], ["c", "stock photo"]
    assert texts(tmp_path, [one, other], max_repeats=2, counted=counted) == [one, other]
    before = hashes(tmp_path / "curate")
    grown = texts(tmp_path, [one, other, third], max_repeats=2, counted=counted)
    after = hashes(tmp_path / "curate")
    if counted == "corpus":
        assert grown == [["a"], ["b"], ["c"]]
    else:
        assert grown == [one, other, ["c"]]
        assert {name: after[name] for name in before if "manifest" not in name} == {
            name: digest for name, digest in before.items() if "manifest" not in name
        }

"""Windows of stage `shards`: each input is read once, and every row arrives with all that is known of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pairloom.store.folder import open_folder, read_shard
from pipeline import windows
from pipeline.config import RunConfig
from pipeline.executor import Done, Options, run_stage
from schemas.negatives import NEGATIVES
from schemas.pairs import PAIRS
from schemas.regions import REGIONS
from schemas.tags import TAGS
from stages.shards import Config
from tests.building import numbered, write_table
from tests.stages.test_shards import image, tables

TABLES = {"curate": PAIRS, "regions": REGIONS, "tags": TAGS, "negatives": NEGATIVES}
SHARDS, ROWS = 12, 5
CONFIG = Config(val_share=0.3, shard_bytes=30_000, shuffle_window=2)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve shards of five images in random order; in the other tables they stand in another order."""
    data = tmp_path_factory.mktemp("windows")
    numbers = np.random.default_rng(0).permutation(SHARDS * ROWS).reshape(SHARDS, ROWS)
    made = [tables(row.tolist()) for row in numbers]
    for place, (name, schema) in enumerate(TABLES.items()):
        parts = [each[place].take(list(range(ROWS))[:: -1 if place else 1]) for each in made]
        write_table(data / name, schema, numbered(parts), name)
    return data


def run(inputs: Path, out: Path, config: Config = CONFIG, cluster: str = "inline") -> Done:
    for name in TABLES:
        if not (out / name).exists():
            (out / name).symlink_to(inputs / name)
    return run_stage("shards", config, out, Options(RunConfig(cluster=cluster, workers=2), plain=True))


def test_every_image_arrives_once_with_its_parts_and_each_input_shard_is_read_once(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Counter[Path]()

    def counted(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
        read[path] += columns is None
        return read_shard(path, columns)

    monkeypatch.setattr(windows, "read_shard", counted)
    done = run(inputs, tmp_path)
    assert done.made > 3
    found = pa.concat_tables(table for _, table in open_folder(tmp_path / "shards").tables())
    assert sorted(found["image_id"].to_pylist()) == sorted(image(number) for number in range(SHARDS * ROWS))
    assert found["num_regions"].to_pylist() == [1] * len(found)
    assert len(read) == 4 * SHARDS
    assert set(read.values()) == {1}
    assert list((tmp_path / ".index/shards").glob("*/dealt/*")) == []


def test_the_bytes_do_not_depend_on_workers_or_on_which_shards_were_there(inputs: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    run(inputs, one)
    run(inputs, two, cluster="local")
    whole = open_folder(one / "shards")
    assert whole.shards == open_folder(two / "shards").shards
    names = [entry.name for entry in whole.shards][1::3]
    for name in names:
        whole.file(name).unlink()
    assert run(inputs, one).made == len(names)
    assert open_folder(one / "shards").shards == whole.shards


def test_a_plan_is_made_once_and_again_when_a_setting_changes_it(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(inputs, tmp_path)
    assert "planning" in capsys.readouterr().err
    assert run(inputs, tmp_path).made == 0
    assert "planning" not in capsys.readouterr().err
    out = tmp_path / "other"
    out.mkdir()
    changed = Config(val_share=0.3, shard_bytes=30_000, shuffle_window=3)
    run(inputs, out, changed)
    assert len(list((out / ".index/kept").iterdir())) == 1


def test_what_a_killed_task_put_aside_is_removed(inputs: Path, tmp_path: Path) -> None:
    run(inputs, tmp_path)
    (index,) = (tmp_path / ".index/shards").iterdir()
    left = index / "dealt/tmpabc"
    left.mkdir(parents=True)
    (left / "0-0").write_bytes(b"rows")
    run(inputs, tmp_path)
    assert not left.exists()

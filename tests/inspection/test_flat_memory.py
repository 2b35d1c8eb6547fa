"""`lint`, `info` and `report` hold about as much of a large table as of a small one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from schemas.shards import SHARDS
from tests.building import training_row, training_shard, write_table

ROWS, REGIONS, WIDTH = 32, 16, 1024  # of a shard: 1 MB of features, 2 MB as they are read
FEW, MANY = 12, 132
BOUND_MB = 30.0  # a quarter of what the further shards hold
METADATA = {"feature_width": str(WIDTH), "classes": '["thing"]', "attributes": '["none"]'}
MAIN = """
import sys
from pipeline.cli import main
code = main(sys.argv[1:])
assert code == 0 or (code == 1 and sys.argv[1] == "lint"), code  # lint has read all, and found what is not whole here
status = open("/proc/self/status", encoding="utf-8").read()  # of this program alone, unlike ru_maxrss
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A dataset of few shards, and one of many."""
    random = np.random.default_rng(0)

    def shard(first: int) -> pa.Table:
        features = random.normal(size=(ROWS, REGIONS, WIDTH)).astype(np.float16)
        boxes = np.tile(np.array([[0, 0, 32, 24]]), (REGIONS, 1))
        rows = [training_row(first + row, [f"photo {first + row}"], boxes, features[row]) for row in range(ROWS)]
        return training_shard(rows, "train", METADATA)

    made = []
    for count in (FEW, MANY):
        folder = tmp_path_factory.mktemp("data") / "data"
        shards = {f"train-{number:05d}": shard(number * ROWS) for number in range(count)}
        write_table(folder / "shards", SHARDS, shards, indexed=True)
        made.append(folder)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["lint", "info", "report"])
def test_eleven_times_the_shards_take_no_more_memory(verb: str, tables: list[Path], tmp_path: Path) -> None:
    few, many = (peak_mb(verb, folder, tmp_path / folder.parent.name) for folder in tables)
    assert many - few < BOUND_MB, (few, many)


def peak_mb(verb: str, data: Path, out: Path) -> float:
    own = ["--data", str(data), "--out", str(out / "index.html")] if verb == "report" else [str(data)]
    done = subprocess.run([sys.executable, "-c", MAIN, verb, *own], capture_output=True, text=True, check=True)
    return int(done.stderr.splitlines()[-1]) / 1024

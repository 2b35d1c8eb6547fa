"""Folders that are unfinished, foreign or of a later version, and a machine that runs out of descriptors."""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pytest
from torch.utils.data import DataLoader, IterableDataset

from pairloom import ColumnBatch, Loader, Options, open_table
from pairloom.errors import ConfigError, StoreError
from pairloom.extra import EXTRA, as_dict, as_extra
from pairloom.loader.needs import LATEST
from pairloom.store.folder import JOURNAL, MANIFEST
from schemas.pairs import CAPTION
from schemas.shards import SHARDS
from tests.building import write_table
from tests.pairloom.loader.loading import METADATA, table_of, write_folder

HERE = Path(__file__).resolve().parents[3]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "shards")


def refused(shards: Path, said: str) -> StoreError:
    with pytest.raises(StoreError, match=said) as caught:
        list(Loader(shards, columns=("captions", "class_ids"), batch_size=2))
    return caught.value


def manifest(shards: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((shards / MANIFEST).read_text(encoding="utf-8"))
    return found


def test_an_unfinished_folder_is_refused(shards: Path) -> None:
    content = manifest(shards)
    listed = content.pop("shards")
    assert isinstance(listed, list)
    lines = [json.dumps(one) for one in (content, *listed[:2])]
    (shards / JOURNAL).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (shards / MANIFEST).unlink()
    error = refused(shards, "unfinished: 17 rows so far")
    assert "pairloom stage shards --data" in error.args[2]


def test_a_table_that_is_none_of_shards_is_refused(shards: Path) -> None:
    (shards / MANIFEST).write_text(json.dumps(manifest(shards) | {"table": "regions"}), encoding="utf-8")
    refused(shards, "a table of regions, not of shards")


def test_a_later_version_is_refused_by_its_number(shards: Path) -> None:
    assert SHARDS.version == LATEST
    (shards / MANIFEST).write_text(json.dumps(manifest(shards) | {"table_version": LATEST + 1}), encoding="utf-8")
    refused(shards, f"version {LATEST + 1}, and this pairloom reads up to {LATEST}")


def test_shards_of_version_5_give_the_same_batches(tmp_path: Path) -> None:
    """There `extra` was a map, and a caption had no kind."""
    now = table_of(range(6), "train").set_column(
        SHARDS.schema().get_field_index("extra"),
        "extra",
        pa.array([as_extra({"n": str(row)}) for row in range(6)], EXTRA),
    )
    older = {
        "extra": pa.array([[("n", str(row))] for row in range(6)], pa.map_(pa.string(), pa.string())),
        "captions": pa.array(now["captions"].to_pylist(), pa.list_(pa.struct(list(CAPTION)[:3]))),
    }
    then = now
    for name, column in older.items():
        then = then.set_column(then.schema.get_field_index(name), name, column)
    seen = []
    for version, table in ((5, then), (6, now)):
        schema = replace(SHARDS, version=version)
        folder = write_table(tmp_path / str(version), schema, {"train-00000": table}, "shards", indexed=True)
        batches = itertools.islice(Loader(folder, columns=("extra", "class_ids"), batch_size=2), 9)  # an epoch and more
        seen.append([(batch.texts, [as_dict(extra) for extra in batch["extra"]]) for batch in batches])
    assert seen[0] == seen[1]
    assert {extra["n"] for _, extras in seen[1] for extra in extras} == set("012345")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"colour": 1}, "colour"),
        ({"shards": [{"name": "train-00000", "weight": 3}]}, "weight"),
        ({"shards": [{"name": "train-00000"}]}, "rows"),
        ({"shards": {}}, "it lists no shards"),
        ({"shards": [7]}, "an entry is '7'"),
        ({"config": None}, "config is 'None'"),
        ({"table_version": "5"}, "table_version is '5'"),
    ],
)
def test_a_manifest_of_another_form_is_no_traceback(shards: Path, change: dict[str, object], said: str) -> None:
    (shards / MANIFEST).write_text(json.dumps(manifest(shards) | change), encoding="utf-8")
    error = refused(shards, "the manifest cannot be read")
    assert said in str(error)


def test_a_flipped_bit_in_a_manifest_is_an_error_of_the_store_or_nothing(shards: Path) -> None:
    whole, rng = (shards / MANIFEST).read_bytes(), random.Random(0)
    for _ in range(400):
        place = rng.randrange(len(whole))
        flipped = bytes([*whole[:place], whole[place] ^ 1 << rng.randrange(8), *whole[place + 1 :]])
        (shards / MANIFEST).write_bytes(flipped)
        assert MANIFEST in said_of(shards)


def said_of(shards: Path) -> str:
    """What an error of the store says. Nothing if there is none."""
    try:
        open_table(shards)
    except StoreError as error:
        return str(error)
    return MANIFEST


def test_a_shard_with_other_classes_or_widths_is_refused(tmp_path: Path) -> None:
    own = {"train-00000": table_of(range(4), "train")}
    for key, value in {"classes": json.dumps(json.loads(METADATA["classes"])[::-1]), "detector": "another"}.items():
        other = table_of(range(4, 8), "train").replace_schema_metadata(METADATA | {key: value})
        folder = write_table(tmp_path / key, SHARDS, own | {"train-00001": other}, indexed=True)
        error = refused(folder, f"its {key} is")
        assert "train-00001" in error.args[1]


MANY = 300
LOAD = f"""
import itertools, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
from pairloom import Loader, Options
shuffle = Options(shuffle="full") if sys.argv[2] == "full" else Options()
loader = Loader(sys.argv[1], columns=("captions", "features", "image"), batch_size=4, options=shuffle)
print(sum(len(batch) for batch in itertools.islice(loader, {MANY} // 2)))
"""


@pytest.mark.parametrize("shuffle", ["full", "window"])
def test_more_shards_than_the_machine_has_descriptors(tmp_path: Path, shuffle: str) -> None:
    folder = write_folder(tmp_path / "many", (2,) * MANY)
    ran = run(LOAD, str(folder), shuffle)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) == 4 * (MANY // 2)


NONE_LEFT = """
import os, resource, sys
from pairloom import Loader, Options
from pairloom.errors import MachineError
loader = Loader(sys.argv[1], columns=("captions", "features"), batch_size=4, options=Options(on_damage="skip"))
batches = iter(loader)
next(batches)
soft = 64
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, soft))
held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
try:
    for _ in batches:
        pass
    print("no error")
except MachineError as error:
    for number in held:
        os.close(number)
    print(error)
"""


def test_no_descriptor_left_is_the_machines_error_and_no_damage(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "many", (2,) * 60)
    ran = run(NONE_LEFT, str(folder))
    assert "it cannot be read: Too many open files" in ran.stdout, ran.stdout + ran.stderr
    assert "ulimit -n" in ran.stdout


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(HERE)}
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, check=False)


def loader(shards: Path, end: Literal["join", "drop"] = "join") -> Loader[ColumnBatch]:
    return Loader(shards, columns=("captions",), batch_size=2, options=Options(end=end))


def test_a_state_is_of_these_shards_and_this_end(shards: Path, tmp_path: Path) -> None:
    state = loader(shards).state_dict()
    loader(shards).load_state_dict(state)
    loader(shards).load_state_dict({key: state[key] for key in ("step", "seed", "batch_size", "order")})  # 0.1.0's
    with pytest.raises(ConfigError, match="another order: end"):
        loader(shards, "drop").load_state_dict(state)
    again = {f"train-{n:05d}": table_of(rows, "train") for n, rows in enumerate((range(3, 12), range(8), range(6)))}
    other = write_table(tmp_path / "other", SHARDS, again, group_rows=3, indexed=True)
    same_sizes = loader(other).state_dict() | {"order": state["order"]}
    with pytest.raises(ConfigError, match="another order: shards"):
        loader(shards).load_state_dict(same_sizes)


class Wrapped(IterableDataset[object]):
    """What people write around a loader to hand it to torch."""

    def __init__(self, shards: Path) -> None:
        self.loader = loader(shards, "drop")

    def __iter__(self) -> Iterator[object]:
        return (batch.image_ids for batch in self.loader)


def test_a_loader_in_several_workers_of_a_data_loader_is_refused(shards: Path) -> None:
    assert bool(loader(shards))
    once = list(DataLoader(Wrapped(shards), batch_size=None, num_workers=1, collate_fn=list))
    assert len(once) == len(loader(shards, "drop"))
    with pytest.raises(RuntimeError, match="2 workers of a torch DataLoader"):  # torch passes our error on as text
        list(DataLoader(Wrapped(shards), batch_size=None, num_workers=2, collate_fn=list))


UNGUARDED = """
import itertools, sys
from pairloom import Loader
loader = Loader(sys.argv[1], columns=("captions",), batch_size=2, workers=1)
while True:
    next(iter(loader))
"""


@pytest.mark.parametrize("way", ["file", "stdin"])
def test_a_script_without_a_guard_says_what_is_missing(shards: Path, tmp_path: Path, way: str) -> None:
    script = tmp_path / "train_it.py"
    script.write_text(UNGUARDED, encoding="utf-8")
    named, stdin = (str(script), None) if way == "file" else ("-", UNGUARDED)
    environment = os.environ | {"PYTHONPATH": str(HERE)}
    command = [sys.executable, named, str(shards)]
    ran = subprocess.run(command, cwd=HERE, env=environment, input=stdin, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 1
    assert "loader worker" in ran.stderr
    assert 'under `if __name__ == "__main__":`, in a file' in ran.stderr

"""Damaged shards: no wrong value ever gets out of the reader, and the loader refuses or skips with its eyes open."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pairloom import Batch
from pairloom.errors import StoreError
from pairloom.loader import Loader, Options
from pairloom.loader.reading import DamagedError, ShardReader
from pairloom.loader.source import LocalSource
from pairloom.store import index
from pairloom.store.folder import open_folder
from tests.pairloom.loader.loading import recipe, rows_of, tokenizer, write_folder

COLUMNS = ("image_id", "captions", "num_regions", "boxes", "class_scores", "negatives", "width", "tags")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "shards", (9, 8), group_rows=3)


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << (bit % 8)
    path.write_bytes(content)


def read_everything(folder: Path) -> list[object]:
    """All that a loader would hand out of the first shard."""
    source = LocalSource(folder)
    reader = ShardReader(source, source.folder().shards[0])
    found: list[object] = [reader.metadata]
    for group in range(reader.groups):
        found.append(reader.small(group, COLUMNS).to_pydict())
        for column in ("image", "features"):
            heavy = reader.heavy(group, column)
            found += [heavy.value(row) for row in range(int(reader.starts[group]), int(reader.starts[group + 1]))]
    return found


def read_or_refusal(folder: Path) -> list[object] | str:
    """The values, or where the damage is said to be."""
    try:
        return read_everything(folder)
    except DamagedError as error:
        return str(error.args[1])


def test_a_flipped_bit_anywhere_is_refused_or_did_not_matter(folder: Path) -> None:
    shard = folder / "train-00000.parquet"
    sound, whole = read_everything(folder), shard.read_bytes()
    refused = 0
    for bit in np.random.default_rng(0).integers(0, 8 * len(whole), 200).tolist():
        flip(shard, bit)
        found = read_or_refusal(folder)
        refused += isinstance(found, str)
        assert found == sound or "train-00000.parquet" in found, f"bit {bit} gave other values"
        shard.write_bytes(whole)
    assert refused > 150  # the others lie in page headers that are not used, or in columns that were not asked for


def test_a_damaged_index_is_made_again_from_the_shard(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sound, path = read_everything(folder), index.path_of(folder / "train-00000.parquet")
    whole = path.read_bytes()
    for bit in np.random.default_rng(1).integers(0, 8 * len(whole), 60).tolist():
        flip(path, bit)
        assert read_everything(folder) == sound
        path.write_bytes(whole)
    path.unlink()
    capsys.readouterr()
    assert read_everything(folder) == sound
    assert "has no index" in capsys.readouterr().err


def loader(folder: Path, **options: object) -> Loader[Batch]:
    return Loader(folder, recipe(), tokenizer(), seed=1, batch_size=6, options=Options(window=2, **options))  # type: ignore[arg-type]


def damage(folder: Path, column: str, rows: tuple[int, ...]) -> None:
    """Flip a bit in the values of these rows of the first shard."""
    entry = open_folder(folder).shards[0]
    found = index.read(index.path_of(folder / "train-00000.parquet"), entry.sha256)
    assert found is not None
    for row in rows:
        flip(folder / "train-00000.parquet", 8 * int(found.places(column).at[row]) + 3)


def test_a_damaged_row_group_is_refused_by_name(folder: Path) -> None:
    damage(folder, "features", (4,))
    with pytest.raises(DamagedError, match="row 4 is not what was written") as caught:
        list(itertools.islice(loader(folder), 10))
    assert caught.value.args[1].endswith("train-00000.parquet, row group 1")


def test_skip_replaces_the_rows_counts_the_row_group_and_keeps_the_batch_size(folder: Path) -> None:
    sound = {(row["image_id"], row["caption"]) for b in itertools.islice(loader(folder), 6) for row in rows_of(b)}
    damage(folder, "features", (4,))
    skipping = loader(folder, on_damage="skip")
    batches = [rows_of(batch) for batch in itertools.islice(skipping, 6)]
    assert {len(batch) for batch in batches} == {6}
    seen = {(row["image_id"], row["caption"]) for batch in batches for row in batch}
    assert {image for image, _ in sound - seen} == {(4).to_bytes(16, "big")}
    assert [where.rpartition("/")[2] for where in skipping.stats()["damaged"]] == ["train-00000.parquet, row group 1"]


def test_skip_has_a_budget(folder: Path) -> None:
    damage(folder, "features", (0, 4, 8))
    with pytest.raises(StoreError, match="3 row groups are damaged, the budget is 2"):
        list(itertools.islice(loader(folder, on_damage="skip", damage_budget=2), 6))


def test_a_missing_shard_is_an_error_that_names_it(folder: Path) -> None:
    mine = loader(folder)
    (folder / "train-00001.parquet").unlink()
    with pytest.raises(DamagedError, match="missing"):
        list(itertools.islice(mine, 10))


@pytest.mark.parametrize("version", sorted(path.name for path in (Path(__file__).parent / "versions").iterdir()))
def test_shards_of_every_version_are_read(version: str, tmp_path: Path) -> None:
    """The folders were written by the version itself."""
    folder = tmp_path / version
    shutil.copytree(Path(__file__).parent / "versions" / version, folder)
    assert open_folder(folder).header.table_version == int(version)
    rows = [row for batch in itertools.islice(loader(folder), 2) for row in rows_of(batch)]
    other = write_folder(tmp_path / "now", (6,), group_rows=6)
    again = [row for batch in itertools.islice(loader(other), 2) for row in rows_of(batch)]
    assert rows == again


def test_an_index_knows_the_languages_of_captions(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, (4,))
    found = index.build(folder / "train-00000.parquet", "")
    assert found.facts["languages"] == ["en"]
    assert not index.wanted(found, ("de",)).any()
    assert index.wanted(found, ()).all()
    assert pa.types.is_list(found.table["captions"].type)

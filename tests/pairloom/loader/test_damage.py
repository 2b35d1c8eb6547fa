"""Damaged shards: no wrong value ever gets out of the reader, and the loader refuses or skips with its eyes open."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairloom import Batch
from pairloom.errors import MachineError, StoreError
from pairloom.loader import Loader, Options, reading
from pairloom.loader.damage import over_budget
from pairloom.loader.reading import DamagedError, ShardReader
from pairloom.loader.source import LocalSource
from pairloom.store import index
from pairloom.store.folder import open_folder
from pairloom.store.writing import write_index
from schemas.shards import SHARDS
from tests.building import write_table
from tests.pairloom.loader.loading import recipe, rows_of, table_of, tokenizer, write_folder
from tests.pairloom.loader.test_loader import joined
from trainer.recipe import Recipe

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
    except StoreError as error:
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


def test_without_an_index_a_flipped_bit_anywhere_is_refused_and_never_trusted(folder: Path) -> None:
    shard = folder / "train-00000.parquet"
    index.path_of(shard).unlink()
    whole, sha256 = shard.read_bytes(), open_folder(folder).shards[0].sha256
    footer = 8 * (int.from_bytes(whole[-8:-4], "little") + 8)
    random = np.random.default_rng(2)
    anywhere, at_the_end = random.integers(0, 8 * len(whole), 40), 8 * len(whole) - random.integers(1, footer, 40)
    for bit in [*anywhere.tolist(), *at_the_end.tolist()]:
        flip(shard, bit)
        with pytest.raises(StoreError, match="its SHA-256 is"):
            read_everything(folder)
        with pytest.raises(StoreError, match="its SHA-256 is"):
            write_index(folder, shard.stem, sha256)
        shard.write_bytes(whole)
    assert not index.path_of(shard).exists()


def test_two_flipped_bits_in_shard_and_index_are_refused_or_did_not_matter(folder: Path) -> None:
    shard = folder / "train-00000.parquet"
    sound, files = read_everything(folder), [shard, index.path_of(shard)]
    whole = [file.read_bytes() for file in files]
    random = np.random.default_rng(3)
    for _ in range(80):
        for file, content in zip(files, whole, strict=True):
            file.write_bytes(content)
            flip(file, int(random.integers(0, 8 * len(content))))
        found = read_or_refusal(folder)
        assert found == sound or "train-00000.parquet" in found


def test_shards_swapped_with_their_indices_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "shards", (6, 6), group_rows=3)
    for name in ("{}.parquet".format, index.name_of):
        first, second = (folder / name(f"train-0000{number}") for number in (0, 1))
        first.rename(tmp_path / "aside")
        second.rename(first)
        (tmp_path / "aside").rename(second)
    with pytest.raises(StoreError, match="the shard is damaged: its SHA-256 is"):
        loader(folder)


def loader(folder: Path, **options: object) -> Loader[Batch]:
    chosen = Options(**({"window": 2} | options))  # type: ignore[arg-type]
    return Loader(folder, recipe(), tokenizer(), seed=1, batch_size=6, options=chosen)


def damage(folder: Path, column: str, rows: tuple[int, ...]) -> None:
    """Flip a bit in the values of these rows of the first shard."""
    entry = open_folder(folder).shards[0]
    found = index.read(index.path_of(folder / "train-00000.parquet"), entry.sha256)
    assert found is not None
    for row in rows:
        flip(folder / "train-00000.parquet", 8 * int(found.places(column).at[row]) + 3)


def test_a_damaged_row_group_is_refused_by_name(folder: Path) -> None:
    damage(folder, "features", (4,))
    batches = iter(loader(folder))
    with pytest.raises(DamagedError, match="row 4 is not what was written") as caught:
        list(itertools.islice(batches, 10))
    with pytest.raises(DamagedError, match="row 4 is not what was written"):
        next(batches)  # not the end of the epoch, nor the batch after
    assert caught.value.args[1].endswith("train-00000.parquet, row group 1, row 4")


def test_skip_replaces_the_rows_counts_them_and_keeps_the_batch_size(folder: Path) -> None:
    sound = {(row["image_id"], row["caption"]) for b in itertools.islice(loader(folder), 6) for row in rows_of(b)}
    damage(folder, "features", (4,))
    skipping = loader(folder, on_damage="skip")
    batches = [rows_of(batch) for batch in itertools.islice(skipping, 6)]
    assert {len(batch) for batch in batches} == {6}
    seen = {(row["image_id"], row["caption"]) for batch in batches for row in batch}
    assert {image for image, _ in sound - seen} == {(4).to_bytes(16, "big")}
    named = [where.rpartition("/")[2] for where in skipping.stats()["damaged"]]
    assert named == ["train-00000.parquet, row group 1, row 4"]


def test_skip_has_a_budget(folder: Path) -> None:
    damage(folder, "features", (0, 4, 8))
    with pytest.raises(StoreError, match="3 row groups or rows are damaged, the budget is 2"):
        list(itertools.islice(loader(folder, on_damage="skip", damage_budget=2), 6))


def rows_before_the_end(folder: Path, ranks: int, budget: int) -> tuple[bool, set[str]]:
    """Whether a rank ended the run within an epoch and a half, and all damage that had been met by then."""
    options = Options(window=4, on_damage="skip", damage_budget=budget)
    mine = [
        Loader(folder, recipe(), tokenizer(), seed=3, batch_size=12, rank=rank, world_size=ranks, options=options)
        for rank in range(ranks)
    ]
    ended = False
    for _ in range(6):
        for each in mine:
            try:
                each.next_batch()
            except StoreError:
                ended = True
        if ended:
            break
    return ended, {where for each in mine for where in each.stats()["damaged"]}


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_the_budget_is_that_of_all_ranks(ranks: int, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "shards", (9, 8, 9), group_rows=3)
    damage(folder, "features", (1, 4, 5, 7, 8))  # rows, each of which one rank reads
    ended, met = rows_before_the_end(folder, ranks, budget=5 * ranks)
    assert not ended
    assert len(met) == 5
    ended, met = rows_before_the_end(folder, ranks, budget=1)
    assert ended
    assert len(met) <= 1 + ranks  # one more than the shares ends it
    (folder / "train-00001.parquet").unlink()  # three row groups, which every rank meets
    ended, met = rows_before_the_end(folder, ranks, budget=3 + 5 * ranks)
    assert not ended
    assert len(met) == 8
    assert rows_before_the_end(folder, ranks, budget=2)[0]


PLACED = st.lists(st.tuples(st.integers(0, 4), st.one_of(st.none(), st.integers(0, 9))), max_size=12, unique=True)


@given(places=PLACED, ranks=st.integers(1, 4), budget=st.integers(0, 8), seed=st.integers(0, 99))
def test_ranks_together_never_bear_more_than_the_budget_and_one_row_each(
    places: list[tuple[int, int | None]], ranks: int, budget: int, seed: int
) -> None:
    named = [f"s.parquet, row group {group}" + ("" if row is None else f", row {row}") for group, row in places]
    groups = [where for where, (_, row) in zip(named, places, strict=True) if row is None]
    rows = [where for where in named if where not in groups]
    owners = np.random.default_rng(seed).integers(ranks, size=len(rows))
    met = [[*groups, *(row for row, owner in zip(rows, owners, strict=True) if owner == rank)] for rank in range(ranks)]
    over = [over_budget(each, budget, ranks) for each in met]
    if len(named) > budget + ranks - 1:
        assert any(over)
    if len(groups) <= budget and len(rows) <= -(-(budget - len(groups)) // ranks):
        assert not any(over)
    if ranks == 1:
        assert over == [len(named) > budget]


def parts(folder: Path, ranks: int, plan: Recipe, **chosen: Any) -> list[list[dict[str, Any]]]:
    """The first eight global batches, put together of those of the ranks."""
    options = Options(window=4, on_damage="skip", damage_budget=99, **chosen)
    loaders = [
        Loader(folder, plan, tokenizer(), seed=3, batch_size=48, rank=rank, world_size=ranks, options=options)
        for rank in range(ranks)
    ]
    return joined([[rows_of(batch) for batch in itertools.islice(mine, 8)] for mine in loaders])


@pytest.mark.parametrize("max_tokens", [None, 20 * 42])
def test_skip_gives_the_same_batches_on_any_number_of_ranks(max_tokens: int | None, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "shards", (9, 8, 9), group_rows=3)
    damage(folder, "features", (1, 4, 5))
    (folder / "train-00001.parquet").unlink()
    whole = parts(folder, 1, recipe(), max_tokens=max_tokens)
    assert parts(folder, 2, recipe(), max_tokens=max_tokens) == whole
    assert parts(folder, 3, recipe(), max_tokens=max_tokens) == whole
    seen = {int.from_bytes(row["image_id"], "big") for batch in whole for row in batch}
    assert not seen & {1, 4, 5, *range(9, 17)}


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_damaged_first_shard_is_passed_over_and_each_of_its_row_groups_counts(folder: Path, workers: int) -> None:
    shard = folder / "train-00000.parquet"
    flip(shard, 8 * (shard.stat().st_size - 20))
    with pytest.raises(DamagedError, match="footer is not what was written"):
        loader(folder)
    mine = loader(folder, on_damage="skip", window=6)
    assert sum(len(batch) for batch in itertools.islice(mine, 8)) == 48
    assert list(mine.stats()["damaged"]) == [f"{shard}, row group {group}" for group in range(3)]
    with pytest.raises(StoreError, match="3 row groups or rows are damaged"):
        list(itertools.islice(loader(folder, on_damage="skip", damage_budget=2, window=6), 8))


def test_a_picture_that_cannot_be_decoded_is_named_with_its_row_and_passed_over(tmp_path: Path) -> None:
    table = table_of(range(9), "train")
    pictures = table["image"].to_pylist()
    pictures[4] = b"<html>not found</html>"
    field = table.schema.field("image")
    table = table.set_column(table.column_names.index("image"), field, pa.array(pictures, field.type))
    folder = write_table(tmp_path / "shards", SHARDS, {"train-00000": table}, group_rows=3, indexed=True)
    plain = Loader(folder, recipe("clip"), tokenizer("clip"), batch_size=18)
    said = r"the picture cannot be decoded: [\s\S]*train-00000.parquet, row group 1, row 4, http://sample.invalid/4\n"
    with pytest.raises(DamagedError, match=said):
        next(iter(plain))
    whole = parts(folder, 1, recipe("clip"))
    assert parts(folder, 3, recipe("clip")) == whole
    assert (4).to_bytes(16, "big") not in {row["image_id"] for batch in whole for row in batch}


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EMFILE, errno.ESTALE])
def test_an_error_of_the_machine_is_no_damage_and_is_never_skipped(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """No disk fails when it is asked to, so the call that reads pictures and features does."""
    mine = Loader(folder, recipe(), tokenizer(), seed=1, batch_size=4, options=Options(on_damage="skip"))

    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(reading, "read_all", fail)
    with pytest.raises(MachineError, match=os.strerror(number)) as told:
        next(iter(mine))
    assert "rebuild" not in str(told.value)


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
    found = index.build(folder / "train-00000.parquet", "", compared=True)
    assert found.facts["languages"] == ["en"]
    assert not index.wanted(found, ("de",)).any()
    assert index.wanted(found, ()).all()
    assert pa.types.is_list(found.table["captions"].type)

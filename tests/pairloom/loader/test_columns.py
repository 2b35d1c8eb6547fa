"""Batches without a recipe hold what the shards hold; pyarrow reads the same files as the truth."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pairloom import ColumnBatch, ConfigError, Loader, Mixture, Options
from pairloom.errors import MissingColumnsError
from pairloom.vectors import pack
from schemas.shards import SHARDS
from tests.building import write_table
from tests.pairloom.loader.loading import WIDTH, table_of, write_folder

NAMES = ("image", "captions", "boxes", "features", "class_ids", "width", "tags")
BATCH = 4


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("shards"))


def stored(folder: Path) -> dict[tuple[bytes, int], dict[str, Any]]:
    """(image id, caption index) -> the row as pyarrow reads it."""
    rows = [row for file in sorted(folder.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]
    return {(row["image_id"], caption): row for row in rows for caption in range(len(row["captions"]))}


def keys(batch: ColumnBatch) -> list[tuple[bytes, int]]:
    return list(zip(batch.image_ids, batch.caption_index_B.tolist(), strict=True))


def epoch(loader: Loader[ColumnBatch], rows: int) -> list[ColumnBatch]:
    found = list(itertools.islice(loader, -(-rows // BATCH)))
    loader.close()
    return found


def test_every_value_is_that_of_the_file(shards: Path) -> None:
    truth = stored(shards)
    for batch in epoch(Loader(shards, columns=NAMES, batch_size=BATCH, options=Options(end="pad")), len(truth)):
        for number, key in enumerate(keys(batch)):
            row, regions = truth[key], truth[key]["num_regions"]
            assert batch.texts[number] == row["captions"][key[1]]["text"]
            assert batch["captions"][number] == row["captions"]
            assert batch["image"][number] == row["image"]
            assert batch["tags"][number] == row["tags"]
            assert int(batch["width"][number]) == row["width"]
            assert int(batch["num_regions"][number]) == regions
            boxes = np.frombuffer(row["boxes"], "<f4").reshape(regions, 4)
            features = np.frombuffer(row["features"], "<f2").reshape(regions, WIDTH)
            assert np.array_equal(batch["boxes"][number, :regions], boxes)
            assert np.array_equal(batch["features"][number, :regions], features)
            assert batch["class_ids"][number, :regions].tolist() == np.frombuffer(row["class_ids"], "<u2").tolist()
            assert batch.region_mask_BR[number].tolist() == [place < regions for place in range(len(batch["boxes"][0]))]
            for name in ("boxes", "features", "class_ids"):
                assert not batch[name][number, regions:].any()


def test_an_epoch_has_every_caption_once_and_marks_what_fills_it_up(shards: Path) -> None:
    truth, found = stored(shards), []
    for batch in epoch(Loader(shards, columns=("captions",), batch_size=BATCH, options=Options(end="pad")), 46):
        real = [True] * len(batch) if batch.real_B is None else batch.real_B.tolist()
        found += list(itertools.compress(keys(batch), real))
    assert sorted(found) == sorted(truth)


def test_ranks_and_workers_get_the_parts_of_the_same_batches(shards: Path) -> None:
    whole = epoch(Loader(shards, columns=NAMES, batch_size=BATCH, seed=3), 20)
    parts = [
        epoch(Loader(shards, columns=NAMES, batch_size=BATCH, seed=3, rank=rank, world_size=2, workers=rank), 20)
        for rank in (0, 1)
    ]
    for batch, first, second in zip(whole, *parts, strict=True):
        assert keys(batch) == keys(first) + keys(second)
        assert batch["image"] == first["image"] + second["image"]
        for half, rows in ((first, slice(0, len(first))), (second, slice(len(first), None))):
            longest = half["features"].shape[1]
            assert torch.equal(batch["features"][rows, :longest], half["features"])


def test_it_resumes_at_any_step_and_not_in_another_order(shards: Path) -> None:
    whole = epoch(Loader(shards, columns=("captions",), batch_size=BATCH), 24)
    first, second = (Loader(shards, columns=("captions",), batch_size=BATCH) for _ in range(2))
    list(itertools.islice(first, 2))
    second.load_state_dict(first.state_dict())
    assert [keys(batch) for batch in itertools.islice(second, 4)] == [keys(batch) for batch in whole[2:6]]
    other = Loader(shards, columns=("captions",), batch_size=BATCH, seed=1)
    with pytest.raises(ConfigError, match="another order"):
        other.load_state_dict(first.state_dict())


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [(None, torch.float16), ("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)],
)
def test_features_come_in_the_wanted_numbers(shards: Path, dtype: Any, kind: torch.dtype) -> None:
    batch = next(iter(Loader(shards, columns=("features",), batch_size=BATCH, options=Options(dtype=dtype))))
    plain = next(iter(Loader(shards, columns=("features",), batch_size=BATCH)))
    assert batch["features"].dtype == kind
    assert torch.equal(batch["features"], plain["features"].to(kind))
    assert set(batch.columns) == {"features", "num_regions"}


def test_features_stored_as_int8_come_out_by_their_scales(tmp_path: Path) -> None:
    table = table_of(range(5), "train")
    vectors = [np.frombuffer(value.as_py(), "<f2").reshape(-1, WIDTH) for value in table["features"]]
    packed = [pack(one, "int8") for one in vectors]
    for name, values in zip(("features", "feature_scales"), zip(*packed, strict=True), strict=True):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(place), pa.array(values, pa.large_binary()))
    table = table.replace_schema_metadata({**table.schema.metadata, b"feature_dtype": b"<i1"})
    write_table(tmp_path, SHARDS, {"train-00000": table})
    options = Options(dtype="float32", end="repeat")
    for batch in epoch(Loader(tmp_path, columns=("features",), batch_size=BATCH, options=options), 9):
        for number, (image_id, _) in enumerate(keys(batch)):
            wanted = vectors[int.from_bytes(image_id, "big")].astype(np.float32)
            found = batch["features"][number, : len(wanted)].numpy()
            assert np.abs(found - wanted).max() <= np.abs(wanted).max() / 127


def test_one_caption_an_image_and_folders_mixed(shards: Path, tmp_path: Path) -> None:
    one = Loader(shards, columns=("captions",), batch_size=BATCH, options=Options(captions="one", end="drop"))
    images = [image for batch in one for image in batch.image_ids]
    assert len(images) == len(set(images))
    other = write_folder(tmp_path / "other", (4,))
    mixed = Loader(Mixture((shards, other)), columns=("captions", "boxes"), batch_size=BATCH)
    assert len(next(iter(mixed))) == BATCH


def test_columns_that_are_not_there_are_named(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingColumnsError, match=r"lack the columns bboxes\n(?s:.*)name some of .*boxes, captions"):
        Loader(shards, columns=("features", "bboxes"), batch_size=BATCH)
    with pytest.raises(ConfigError, match="columns is the text 'image'"):
        Loader(shards, columns="image", batch_size=BATCH)
    bare = write_folder(tmp_path, without=("tags",))
    with pytest.raises(MissingColumnsError, match="tags") as error:
        Loader(bare, columns=("tags",), batch_size=BATCH)
    assert error.value.columns == ("tags",)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_column_of_numbers_that_no_stage_filled_is_refused(shards: Path, workers: int) -> None:
    loader = Loader(shards, columns=("proposals",), batch_size=BATCH, workers=workers)
    with pytest.raises(MissingColumnsError, match=r"column proposals has no values(?s:.*)row group \d") as error:
        next(iter(loader))
    loader.close()
    assert error.value.columns == ("proposals",)


def test_only_captions_of_the_wanted_languages_are_rows(tmp_path: Path) -> None:
    table = table_of(range(6), "train")
    listed = [
        [caption | {"lang": ("en", "de", None)[place]} for place, caption in enumerate(captions)]
        for captions in table["captions"].to_pylist()
    ]
    place = table.schema.get_field_index("captions")
    table = table.set_column(place, table.schema.field(place), pa.array(listed, table.schema.field(place).type))
    write_table(tmp_path, SHARDS, {"train-00000": table})
    loader = Loader(tmp_path, columns=("captions",), languages=("de",), batch_size=1, options=Options(end="drop"))
    found = [(batch.image_ids[0][-1], int(batch.caption_index_B[0])) for batch in loader]
    # Image i has 1 + i % 3 captions: English, German, and one of no known language, which every choice takes.
    assert sorted(found) == [(1, 1), (2, 1), (2, 2), (4, 1), (5, 1), (5, 2)]


def test_an_address_gives_the_batches_of_the_folder(shards: Path, tmp_path: Path) -> None:
    there = fsspec.filesystem("memory")
    there.put(str(shards), "/columns", recursive=True)
    names = ("image", "captions", "boxes", "features")
    on_disk = epoch(Loader(shards, columns=names, batch_size=BATCH), 23)
    remote = epoch(Loader("memory://columns", columns=names, batch_size=BATCH, options=Options(cache=tmp_path)), 23)
    there.rm("/columns", recursive=True)
    for batch, other in zip(on_disk, remote, strict=True):
        assert keys(batch) == keys(other)
        assert batch["image"] == other["image"]
        assert torch.equal(batch["features"], other["features"])


def test_what_needs_tokens_is_refused_without_a_plan(shards: Path) -> None:
    with pytest.raises(ConfigError, match="neither a plan nor columns"):
        Loader(shards, columns=(), batch_size=BATCH)
    with pytest.raises(ConfigError, match="need tokens"):
        Loader(shards, columns=("captions",), batch_size=BATCH, options=Options(max_tokens=64))
    with pytest.raises(ConfigError, match="no tokenizer"):
        _ = Loader(shards, columns=("captions",), batch_size=BATCH).tokenizer


def test_a_damaged_row_group_is_refused_or_replaced(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    file = folder / "train-00001.parquet"
    content = bytearray(file.read_bytes())
    index = content.find(stored(folder)[(9).to_bytes(16, "big"), 0]["image"])
    content[index + 40] ^= 1
    file.write_bytes(content)
    with pytest.raises(Exception, match="not what was written"):
        epoch(Loader(folder, columns=("image",), batch_size=BATCH), 46)
    options = Options(on_damage="skip", damage_budget=1)
    loader = Loader(folder, columns=("image",), batch_size=BATCH, options=options)
    epoch(loader, 46)
    assert len(loader.stats()["damaged"]) == 1

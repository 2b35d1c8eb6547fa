"""The loader's promise: the same batches for any number of ranks and workers, from any step on, each row once."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pairloom import Batch, vectors
from pairloom.errors import ConfigError
from pairloom.loader import Loader, Options
from pairloom.loader.mixture import Mix, Mixture
from pairloom.loader.order import End
from pipeline.advice import advised
from schemas.shards import SHARDS
from tests.building import write_table
from tests.pairloom.loader import loading
from tests.pairloom.loader.loading import (
    WIDTH,
    all_keys,
    keys,
    recipe,
    rows_of,
    table_of,
    tokenizer,
    write_folder,
)

IMAGES = 23
ROWS = len(all_keys(IMAGES))
BATCH = 8
STEPS = 12  # more than two epochs of 45 rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("shards"))


def loader(
    folder: Path | Mixture, rank: int = 0, ranks: int = 1, workers: int = 0, batch_size: int = BATCH,
    name: str = "uniter", **options: Any,
) -> Loader[Batch]:  # fmt: skip
    return Loader(
        folder, recipe(name), tokenizer(name), seed=5, batch_size=batch_size, rank=rank, world_size=ranks,
        workers=workers, options=Options(**{"window": 2} | options),
    )  # fmt: skip


def take(loader: Loader[Batch], steps: int) -> list[list[dict[str, Any]]]:
    found = [rows_of(batch) for batch in itertools.islice(loader, steps)]
    loader.close()
    return found


def joined(parts: list[list[list[dict[str, Any]]]]) -> list[list[dict[str, Any]]]:
    """The global batches, from what each rank has seen."""
    return [[row for part in step for row in part] for step in zip(*parts, strict=True)]


@pytest.fixture(scope="module")
def expected(folder: Path) -> list[list[dict[str, Any]]]:
    return take(loader(folder), STEPS)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 8])
def test_global_batches_are_bit_equal_for_any_number_of_ranks(
    ranks: int, folder: Path, expected: list[list[dict[str, Any]]]
) -> None:
    assert joined([take(loader(folder, rank, ranks), STEPS) for rank in range(ranks)]) == expected


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "workers"), [(1, 1), (1, 3), (2, 1)])
def test_global_batches_are_bit_equal_for_any_number_of_workers(
    ranks: int, workers: int, folder: Path, expected: list[list[dict[str, Any]]]
) -> None:
    found = []
    for rank in range(ranks):
        mine = loader(folder, rank, ranks, workers)
        iterator = iter(mine)
        first = next(iterator)
        wait_for_workers(mine)  # or the main process would have made all of these few batches itself
        found.append([rows_of(first), *(rows_of(batch) for batch in itertools.islice(iterator, STEPS - 1))])
        mine.close()
    assert joined(found) == expected


def wait_for_workers(mine: Loader[Batch]) -> None:
    pool = mine.pool()
    while not all(worker.ready for worker in pool.workers):
        pool.listen(10)


def test_a_run_goes_on_at_any_step_with_any_other_number_of_ranks(
    folder: Path, expected: list[list[dict[str, Any]]]
) -> None:
    for step in range(STEPS):
        first = loader(folder, ranks=2)
        take(first, step)
        state = first.state_dict()
        for ranks in (1, 2, 3, 4, 8):
            parts = []
            for rank in range(ranks):
                resumed = loader(folder, rank, ranks)
                resumed.load_state_dict(state)
                parts.append(take(resumed, 2))
            assert joined(parts) == [*expected, *take_at(folder, STEPS)][step : step + 2]


def take_at(folder: Path, step: int) -> list[list[dict[str, Any]]]:
    later = loader(folder)
    later.load_state_dict(later.state_dict() | {"step": step})
    return take(later, 2)


@pytest.mark.slow
def test_a_run_with_workers_goes_on_with_another_number_of_them(
    folder: Path, expected: list[list[dict[str, Any]]]
) -> None:
    first = loader(folder, workers=2)
    iterator = iter(first)
    rows_of(next(iterator))
    wait_for_workers(first)
    found = [rows_of(batch) for batch in itertools.islice(iterator, 4)]
    state = first.state_dict()  # what workers have made ahead does not count
    first.close()
    resumed = loader(folder)
    resumed.load_state_dict(state)
    assert found + take(resumed, STEPS - 5) == expected[1:]


def test_a_state_of_another_order_is_refused(folder: Path) -> None:
    state = loader(folder).state_dict()
    for other in (loader(folder, batch_size=4), loader(folder, window=3)):
        with pytest.raises(ConfigError, match="another order"):
            other.load_state_dict(state)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch_size=st.integers(1, ROWS),
    ranks=st.integers(1, 5),
    end=st.sampled_from(["join", "drop", "pad", "repeat"]),
    epochs=st.integers(1, 3),
)
def test_each_row_comes_once_an_epoch_but_for_the_stated_policy(
    batch_size: int, ranks: int, end: End, epochs: int, folder: Path
) -> None:
    ranks = min(ranks, batch_size)
    loaders = [loader(folder, rank, ranks, batch_size=batch_size, end=end) for rank in range(ranks)]
    if end == "join":
        steps = -(-epochs * ROWS // batch_size)
        rows = [row for step in joined([take(one, steps) for one in loaders]) for row in step]
        for epoch in range(epochs):
            assert sorted(keys(rows[epoch * ROWS : (epoch + 1) * ROWS])) == all_keys(IMAGES)
        return
    for _ in range(epochs):
        steps = len(loaders[0])
        rows = [row for step in joined([[rows_of(batch) for batch in one] for one in loaders]) for row in step]
        assert len(rows) == steps * batch_size
        counted = Counter(keys([row for row in rows if row["real"]]))
        if end == "drop":
            assert steps == ROWS // batch_size
            assert max(counted.values()) == 1
        if end == "pad":
            assert counted == Counter(all_keys(IMAGES))
        if end == "repeat":
            assert Counter(all_keys(IMAGES)) <= counted  # all of them, and the first ones again
            assert len(counted) == ROWS
            assert 0 <= len(rows) - ROWS < batch_size


def test_epochs_differ_and_so_do_the_masks_of_a_row(folder: Path) -> None:
    rows = [row for batch in take(loader(folder, batch_size=ROWS), 24) for row in batch]
    first, second = rows[:ROWS], rows[ROWS : 2 * ROWS]
    assert keys(first) != keys(second)
    masks = {
        (*key, tuple(row["labels"])) for key, row in zip(keys(rows), rows, strict=True) if row["objective"] == "mlm"
    }
    captions = {key for key, row in zip(keys(rows), rows, strict=True) if row["objective"] == "mlm"}
    assert len(masks) > len(captions)


def test_with_one_caption_an_image_each_image_comes_once_and_every_caption_in_time(folder: Path) -> None:
    rows = [row for batch in take(loader(folder, batch_size=IMAGES, captions="one"), 30) for row in batch]
    for start in range(0, len(rows), IMAGES):
        assert len({row["image_id"] for row in rows[start : start + IMAGES]}) == IMAGES
    assert set(keys(rows)) == set(all_keys(IMAGES))


def test_pixels_too_are_a_function_of_the_step(folder: Path) -> None:
    whole = take(loader(folder, name="clip"), 3)
    assert joined([take(loader(folder, rank, 3, name="clip"), 3) for rank in range(3)]) == whole


def test_a_full_shuffle_has_each_row_once_and_another_order(folder: Path) -> None:
    windows, full = (
        [row for batch in take(loader(folder, batch_size=ROWS, shuffle=shuffle), 1) for row in batch]
        for shuffle in ("window", "full")
    )
    assert sorted(keys(full)) == all_keys(IMAGES)
    assert keys(full) != keys(windows)


@pytest.mark.parametrize("how", ["stratified", "alternating"])
def test_a_mixture_meets_its_weights_and_resumes_anywhere(how: Any, folder: Path, tmp_path: Path) -> None:
    other = write_folder(tmp_path / "b", (7,))
    mixture = Mixture((folder, other), Mix(weights=(3, 1), how=how))
    mine = loader(mixture)
    batches = take(mine, 20)
    parts_seen = mine.prepare.stream.at(np.arange(20 * BATCH)).part.reshape(20, BATCH)
    assert abs((parts_seen == 1).mean() - 0.25) <= 1 / 40
    kinds = {len(set(batch)) for batch in parts_seen.tolist()}
    assert kinds == ({2} if how == "stratified" else {1})
    state = loader(mixture).state_dict() | {"step": 7}
    parts = []
    for rank in range(3):
        resumed = loader(mixture, rank, 3)
        resumed.load_state_dict(state)
        parts.append(take(resumed, 13))
    assert joined(parts) == batches[7:]


@pytest.mark.parametrize(
    ("key", "refused", "taken"),
    [("answers", "lxmert", "vinvl"), ("classes", "uniter", "oscar"), ("attributes", "lxmert", "uniter")],
)
def test_folders_are_not_mixed_for_a_head_whose_numbers_mean_other_things_in_them(
    key: str, refused: str, taken: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """taken: a recipe that reads much the same columns, but numbers nothing by this key."""
    loader(Mixture((folder, folder)), name=refused)
    monkeypatch.setitem(loading.METADATA, key, '["no", "yes", "red"]')
    mixture = Mixture((folder, write_folder(tmp_path, (4,))))
    with pytest.raises(ConfigError, match=f"different {key}"):
        loader(mixture, name=refused)
    loader(mixture, name=taken)


def test_features_come_in_the_dtype_that_is_asked_for(folder: Path) -> None:
    stored = next(iter(loader(folder))).regions
    assert stored is not None
    for name in ("float32", "bfloat16"):
        asked = next(iter(loader(folder, dtype=name))).regions
        assert asked is not None
        assert asked.features_BRD.dtype == getattr(torch, name)
        torch.testing.assert_close(asked.features_BRD.float(), stored.features_BRD.float(), rtol=2**-8, atol=0)


def test_an_objective_that_learns_a_distribution_is_refused_shards_without_one(tmp_path: Path) -> None:
    """`regions.class_probs: none` leaves the columns in place and their values out."""
    bare = write_folder(tmp_path, shards=(9,), prob_width=0)
    with pytest.raises(ConfigError, match="column prob_ids is empty: prob_width is 0") as error, advised():
        loader(bare)
    assert "set regions.class_probs: 64 in params.yaml, run the stages regions and then shards" in error.value.args[2]
    assert "train-00000" in error.value.args[1]


def test_features_stored_as_int8_come_out_by_their_scales(tmp_path: Path) -> None:
    table = table_of(range(8), "train")
    true = [np.frombuffer(value.as_py(), "<f2").reshape(-1, WIDTH) for value in table["features"]]
    packed = [vectors.pack(rows, "int8") for rows in true]
    for name, values in zip(("features", "feature_scales"), zip(*packed, strict=True), strict=True):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(place), pa.array(values, pa.large_binary()))
    table = table.replace_schema_metadata({**table.schema.metadata, b"feature_dtype": b"<i1"})
    batch = next(iter(loader(write_table(tmp_path, SHARDS, {"train-00000": table}))))
    assert batch.regions is not None
    for image, found, there in zip(batch.image_ids, batch.regions.features_BRD, batch.regions.mask_BR, strict=True):
        wanted = true[int.from_bytes(image, "big")]
        errors = np.abs(found[there].numpy() - wanted).max(axis=1)
        assert (errors <= np.abs(wanted).max(axis=1) * (0.51 / 127 + 2**-10)).all()  # and of the float16 it becomes


def test_a_worker_count_or_rank_that_cannot_be_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="rank 9 of 9"):
        loader(folder, 9, 9)
    with pytest.raises(ConfigError, match="do not fill one batch"):
        loader(folder, batch_size=ROWS + 1, end="drop")


def test_the_stats_say_where_the_time_went(folder: Path) -> None:
    mine = loader(folder)
    take(mine, 5)
    stats = mine.stats()
    assert (stats["batches"], stats["rows"], stats["damaged"]) == (5, 5 * BATCH, {})
    assert all(stats[name] > 0 for name in ("read_s", "decode_s", "collate_s"))
    assert stats["starved_s"] >= 0
    assert np.isfinite(stats["starved_s"])

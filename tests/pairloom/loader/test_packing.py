"""Batches by tokens instead of rows: the same promises of order, resuming, ranks and workers."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pairloom import Batch
from pairloom.errors import ConfigError
from pairloom.loader import Loader, Options
from tests.pairloom.loader.loading import all_keys, keys, recipe, rows_of, tokenizer, write_folder
from tests.pairloom.loader.test_damage import flip
from tests.pairloom.loader.test_loader import joined, wait_for_workers

ROWS = len(all_keys(23))
LONGEST = 32 + 10  # words and regions of the tiny UNITER


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("shards"))


def loader(folder: Path, tokens: int, run: int = 20, rank: int = 0, ranks: int = 1, **options: Any) -> Loader[Batch]:
    workers = options.pop("workers", 0)
    chosen = Options(window=2, max_tokens=tokens, **options)
    return Loader(
        folder, recipe(), tokenizer(), seed=5, batch_size=run, rank=rank, world_size=ranks, workers=workers,
        options=chosen,
    )  # fmt: skip


def take(mine: Loader[Batch], steps: int) -> list[list[dict[str, Any]]]:
    return [rows_of(batch) for batch in itertools.islice(mine, steps)]


@settings(deadline=None, max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tokens=st.integers(10 * LONGEST, 20 * LONGEST),
    run=st.integers(5, 70),
    ranks=st.integers(1, 5),
    stop=st.integers(0, 6),
    others=st.integers(1, 5),
)
def test_batches_are_the_same_for_other_ranks_and_from_any_step_on(
    tokens: int, run: int, ranks: int, stop: int, others: int, folder: Path
) -> None:
    whole = take(loader(folder, tokens, run), 8)
    parts = [loader(folder, tokens, run, rank, ranks) for rank in range(ranks)]
    assert joined([take(part, stop) for part in parts]) == whole[:stop]
    state = parts[-1].state_dict()
    resumed = [loader(folder, tokens, run, rank, others) for rank in range(others)]
    for one in resumed:
        one.load_state_dict(state)
    found = [take(one, 8 - stop) for one in resumed]
    assert joined(found) == whole[stop:]
    assert all(step for part in found for step in part)  # no rank goes without rows


@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tokens=st.integers(2 * LONGEST, 12 * LONGEST), run=st.integers(1, 2 * ROWS))
def test_each_row_comes_once_in_every_run_of_rows_within_the_budget(tokens: int, run: int, folder: Path) -> None:
    packed, plain = loader(folder, tokens, run), Loader(folder, recipe(), tokenizer(), seed=5, batch_size=run,
                                                        options=Options(window=2))  # fmt: skip
    for rows in take(plain, 2):
        seen: list[dict[str, Any]] = []
        while len(seen) < run:
            batch = rows_of(next(iter(packed)))
            own = [row for row in batch if row["match"]]  # a negative's text may be longer
            assert len(batch) * max((len(row["ids"]) + len(row["masked"]) for row in own), default=0) <= tokens
            seen += batch
        assert sorted(keys(seen)) == sorted(keys(rows))


@pytest.mark.slow
def test_workers_make_the_same_packed_batches(folder: Path) -> None:
    whole = take(loader(folder, 6 * LONGEST), 12)
    mine = loader(folder, 6 * LONGEST, workers=2)
    iterator = iter(mine)
    first = rows_of(next(iterator))
    wait_for_workers(mine)
    found = [first, *(rows_of(batch) for batch in itertools.islice(iterator, 11))]
    mine.close()
    assert found == whole


def test_rows_that_cannot_be_measured_are_skipped_within_the_budget(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, (9, 8, 6))
    shard = folder / "train-00000.parquet"
    chunks = pq.read_metadata(shard).row_group(1).to_dict()["columns"]
    start = next(chunk["data_page_offset"] for chunk in chunks if chunk["path_in_schema"].startswith("captions"))
    flip(shard, 8 * (start + 40))
    mine = loader(folder, 6 * LONGEST, on_damage="skip")
    assert sum(len(batch) for batch in take(mine, 12)) > 40
    assert len(mine.stats()["damaged"]) == 1


def test_a_budget_too_small_for_all_ranks_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="max_tokens is 100"):
        loader(folder, 100, ranks=2)
    with pytest.raises(ConfigError, match="another order"):
        loader(folder, 10 * LONGEST).load_state_dict(loader(folder, 11 * LONGEST).state_dict())

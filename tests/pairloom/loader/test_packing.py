"""Batches by tokens instead of rows: the same promises of order, resuming, ranks and workers."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pairloom import Batch
from pairloom.errors import ConfigError
from pairloom.loader import Loader, Options
from pairloom.loader.packing import Lengths, packed
from pairloom.loader.texts import open_texts
from pipeline import cli
from systems import recipes
from tests.pairloom.loader.loading import WORDS, all_keys, keys, recipe, rows_of, tokenizer, write_folder
from tests.pairloom.loader.test_damage import flip
from tests.pairloom.loader.test_loader import joined, wait_for_workers

ROWS = len(all_keys(23))
LONGEST = 32 + 10  # words and regions of the tiny UNITER


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def patched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("patched"), patched=True)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Longer ones than the captions are."""
    folder = tmp_path_factory.mktemp("texts")
    (folder / "list.txt").write_text("\n".join(" ".join(WORDS[: 1 + n % 15] * 2) for n in range(40)), encoding="utf-8")
    assert cli.main(["texts", str(folder / "list.txt"), "--out", str(folder / "texts")]) == 0
    return folder / "texts"


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
            assert (
                len(batch) * (max(len(row["ids"]) for row in batch) + max(len(row["masked"]) for row in batch))
                <= tokens
            )
            seen += batch
        assert sorted(keys(seen)) == sorted(keys(rows))


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(recipes.names()), extra=st.integers(0, 400), run=st.integers(4, 60), seed=st.integers(0, 99)
)
def test_no_recipe_pads_a_batch_beyond_the_budget(
    name: str, extra: int, run: int, seed: int, patched: Path, texts: Path
) -> None:
    plan = recipe(name)
    alone = open_texts(texts, plan) if plan.shows_text_alone() and seed % 2 else None
    most = getattr(plan.units.module, "most", None)
    tokens = 2 * (plan.text.max_tokens + (0 if most is None else most(plan.units.settings))) + extra
    options = Options(window=2, max_tokens=tokens, texts=alone)
    mine = Loader(patched, plan, tokenizer(name), seed=seed, batch_size=run, options=options)
    for batch in itertools.islice(mine, 5):
        units = 0 if batch.regions is None else batch.regions.mask_BR.numel()
        assert batch.words.input_ids_BT.numel() + units <= tokens


def sizes_of(lengths: dict[str, list[tuple[int, int]]]) -> Lengths:
    return lambda name, places: np.array(lengths[name], np.int64)[places]


ROW = st.tuples(st.integers(1, 60), st.integers(0, 100))  # words and units


@given(
    rows=st.lists(st.tuples(ROW, ROW), min_size=1, max_size=200),
    ranks=st.integers(1, 8),
    extra=st.integers(0, 3000),
    kinds=st.lists(st.sampled_from("ab"), min_size=200, max_size=200),
)
def test_packed_rows_come_once_within_the_budget_and_never_few_at_a_time(
    rows: list[tuple[tuple[int, int], tuple[int, int]]], ranks: int, extra: int, kinds: list[str]
) -> None:
    lengths = {"a": [a for a, _ in rows], "b": [b for _, b in rows]}
    budget = 2 * ranks * 160 + extra
    cuts = packed(len(rows), sizes_of(lengths), lambda number: kinds[number], budget, budget // 160 // 2, 3, 4)
    assert sorted(row for cut in cuts for row in cut.rows.tolist()) == list(range(len(rows)))
    for cut in cuts:
        own = [lengths[cut.objective][row] for row in cut.rows]
        assert (cut.words, cut.units) == (max(words for words, _ in own), max(units for _, units in own))
        assert len(own) * (cut.words + cut.units) <= budget
        assert len(own) >= min(ranks, len(rows))


def test_a_row_beyond_the_budget_comes_alone() -> None:
    cuts = packed(3, sizes_of({"": [(5, 0), (50, 10), (4, 1)]}), lambda _: "", 20, 1, 0)
    assert sorted(cut.rows.tolist() for cut in cuts) == [[0, 2], [1]]


def test_packing_wastes_little_on_padding() -> None:
    lengths = np.random.default_rng(0).integers(20, 120, 8192)
    cuts = packed(8192, lambda _, places: np.stack([lengths, 0 * lengths], 1)[places], lambda _: "", 10240, 1, 1)
    padded = sum(len(cut.rows) * cut.words for cut in cuts)
    assert padded < 1.02 * lengths.sum()  # batches of rows as they come would have a mean of 70 padded to nearly 120


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
    mine = loader(folder, 9 * LONGEST, on_damage="skip")
    assert sum(len(batch) for batch in take(mine, 12)) > 40
    assert len(mine.stats()["damaged"]) == 1


def test_a_budget_too_small_for_all_ranks_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="max_tokens is 100"):
        loader(folder, 100, ranks=2)
    with pytest.raises(ConfigError, match="another order"):
        loader(folder, 10 * LONGEST).load_state_dict(loader(folder, 11 * LONGEST).state_dict())

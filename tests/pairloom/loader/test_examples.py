"""Rows column by column: the same values as row by row, and no row depends on those beside it."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pairloom.loader import Loader, Options
from pairloom.loader.batch import Batch, Regions, Words, map_tensors
from pairloom.loader.collate import spread
from pairloom.loader.draws import Draws
from pairloom.loader.examples import Examples, RegionColumns, spans, split_words, united_words
from pairloom.loader.make import Make
from systems import recipes
from tests.pairloom.loader.loading import recipe, tokenizer, write_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("shards"), patched=True)


def passes(examples: Examples) -> list[Examples]:
    return [replace(one, apart=()) for one in (examples, *examples.apart)]


def tensors(batch: Batch) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        found.append(tensor)
        return tensor

    map_tensors(batch, note)
    return found


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(recipes.names()), seed=st.integers(0, 99), first=st.integers(0, 12), count=st.integers(1, 8)
)
def test_a_row_is_the_same_alone_and_among_others(name: str, seed: int, first: int, count: int, folder: Path) -> None:
    loader = Loader(folder, recipe(name), tokenizer(name), seed=seed, batch_size=4, options=Options(captions="one"))
    make, rows = loader.prepare.make, loader.prepare.stream.parts[0]
    assert isinstance(make, Make)
    chosen = list(islice(rows.all(), first, first + count))
    epochs = [seed + number % 2 for number in range(len(chosen))]
    for parts in recipe(name).steps().values():
        objectives = list(parts.values())
        together = make.ready(objectives, Draws(seed, chosen, epochs))
        alone = [make.ready(objectives, Draws(seed, [row], [epoch])) for row, epoch in zip(chosen, epochs, strict=True)]
        for found, parts_of_alone in zip(passes(together), zip(*map(passes, alone), strict=True), strict=True):
            united = Examples.united([example for one in parts_of_alone for example in one.split()])
            compared = tensors(make.collate(found)), tensors(make.collate(united))
            assert len(compared[0]) == len(compared[1])
            assert all(map(torch.equal, *compared))
        assert make.lengths(objectives, Draws(seed, chosen, epochs)) == [
            size for row, epoch in zip(chosen, epochs, strict=True)
            for size in make.lengths(objectives, Draws(seed, [row], [epoch]))
        ]  # fmt: skip


COUNTS = st.lists(st.integers(0, 5), min_size=1, max_size=9)


@given(counts=COUNTS, seed=st.integers(0, 9))
def test_what_is_split_and_united_is_as_it_was(counts: list[int], seed: int) -> None:
    rng, total = np.random.default_rng(seed), sum(counts)
    words = Words(*(rng.integers(0, 99, total) for _ in range(4)))
    again = united_words(split_words(words, counts))
    assert all((getattr(words, name) == getattr(again, name)).all() for name in ("ids_T", "word_ids_T", "labels_T"))
    columns = {"boxes_R7": rng.random((total, 7), np.float32), "masked_R": rng.random(total) < 0.5}
    features: list[Any] = [rng.random((count, 3)) for count in counts]
    regions = RegionColumns(counts, features, columns)
    found = RegionColumns.united(regions.split())
    assert found.counts == counts
    assert found.columns.keys() == columns.keys()
    assert all((found.columns[name] == columns[name]).all() for name in columns)
    assert all(one.features_RD is mine for one, mine in zip(regions.split(), features, strict=True))
    assert all(isinstance(one, Regions) for one in regions.split())


@given(counts=COUNTS, filling=st.integers(-3, 3))
def test_spread_pads_as_a_loop_over_rows_does(counts: list[int], filling: int) -> None:
    longest = max(counts)
    values = np.arange(10, 10 + sum(counts))
    expected = np.full((len(counts), longest), filling)
    for row, (start, end) in enumerate(spans(counts)):
        expected[row, : end - start] = values[start:end]
    there = np.arange(longest) < np.array(counts)[:, None]
    assert torch.equal(spread(values, there, filling), torch.from_numpy(expected))

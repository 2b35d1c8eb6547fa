"""The report's arithmetic: bins, ticks, medians, and the comparison with the ground truth."""

from __future__ import annotations

import statistics
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspection.examples import Region
from inspection.report import charts
from inspection.report.distributions import BINS, FEWEST, binned, described
from inspection.report.truth import OVERLAP, VISIBLE, Comparison, Match, match
from pairloom.boxes import iou

values = st.dictionaries(st.integers(0, 100_000), st.integers(1, 1000), min_size=1, max_size=60).map(Counter)


@settings(deadline=None)
@given(values)
def test_every_value_is_in_its_bin_and_there_are_few_bins(counts: Counter[int]) -> None:
    heights, edges = binned(counts)
    assert len(edges) == len(heights) + 1
    assert FEWEST <= len(heights) <= 2 * BINS
    for height, low, high in zip(heights, edges, edges[1:], strict=False):
        assert height == sum(times for value, times in counts.items() if low <= value < high)
    assert sum(heights) == counts.total()


@settings(deadline=None)
@given(values)
def test_the_median_said_is_the_median(counts: Counter[int]) -> None:
    median = f"{statistics.median_low(counts.elements()):,}"
    assert described(counts).startswith(f"median {median}," if len(counts) > 1 else f"{median} everywhere")


@settings(deadline=None)
@given(st.floats(1e-6, 1e12))
def test_a_nice_ceiling_is_round_and_close(value: float) -> None:
    ceiling = charts.nice_ceiling(value)
    assert value <= ceiling * (1 + 1e-9)
    assert ceiling <= 2.5 * value * (1 + 1e-9)
    assert f"{ceiling:.1e}"[:3] in ("1.0", "2.0", "2.5", "5.0")
    assert value <= charts.nice_ceiling(value, charts.CLOSE) * (1 + 1e-9) <= ceiling * (1 + 2e-9)


@settings(deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(0.01, 1e6), st.booleans())
def test_ticks_lie_in_their_range_and_are_few(low: float, length: float, whole: bool) -> None:
    found = charts.ticks(low, low + length, 5, whole)
    assert 1 <= len(found) <= 6
    assert all(low - 1e-6 * length <= tick <= low + length * (1 + 1e-6) for tick in found)


def test_numbers_are_short() -> None:
    found = [charts.number(value) for value in (0, 7, 9999, 12345, 3_250_000, 2e9, 0.125, 0.3333333)]
    assert found == ["0", "7", "9,999", "12.3k", "3.25M", "2G", "0.125", "0.333"]


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1e3), st.floats(-1e3, 1e3)), max_size=2000))
def test_a_long_line_becomes_a_short_one_of_the_same_mean(line: list[tuple[float, float]]) -> None:
    short = charts.thin(line)
    assert len(short) <= 240
    if line and len(line) % len(short) == 0:
        assert np.mean([y for _, y in short]) == pytest.approx(np.mean([y for _, y in line]), abs=1e-6)


def test_charts_of_nothing_are_drawn() -> None:
    assert "no values" in charts.lines({"loss": [(0, float("nan"))]}, "step")
    assert "no values" in charts.lines({}, "step")
    assert charts.lines({"loss": [(3, 0)]}, "step").count("<polyline") == 1
    assert charts.bars([], "tags").startswith("<svg")
    assert charts.histogram([0, 0], [0, 1, 2], "regions").count("<rect") == 2


boxes = st.tuples(*[st.integers(0, 20)] * 4).map(
    lambda c: [float(min(c[0], c[2])), float(min(c[1], c[3])), max(c[0], c[2]) + 1.0, max(c[1], c[3]) + 1.0]
)


things = st.lists(st.tuples(st.sampled_from(["cat", "cup"]), boxes, st.sampled_from([0.1, 1.0])), max_size=5)
found = st.lists(st.tuples(st.sampled_from(["cat", "cup", "car"]), boxes), max_size=6)


@settings(deadline=None)
@given(found, things)
def test_regions_are_matched_as_by_hand(
    found: list[tuple[str, list[float]]], wanted: list[tuple[str, list[float], float]]
) -> None:
    regions = [Region((b[0], b[1], b[2], b[3]), name, 0.9 - i / 10, "", 0) for i, (name, b) in enumerate(found)]
    free, expected = list(range(len(wanted))), []
    for region in regions:  # best first, each takes the free thing of its name that it overlaps most
        shares = [float(iou(np.array([region.box]), np.array([wanted[j][1]]))[0, 0]) for j in free]
        mine = [
            (-share, j)
            for share, j in zip(shares, free, strict=True)
            if wanted[j][0] == region.name and share >= OVERLAP
        ]
        if not mine:
            expected.append(False)
            continue
        thing = min(mine)[1]
        free.remove(thing)
        if wanted[thing][2] >= VISIBLE:
            expected.append(True)  # else it counts neither way
    assert [one.right for one in match(regions, wanted)] == expected


def test_precision_and_recall_of_a_small_case() -> None:
    comparison = Comparison(
        1, 4, [Match(0.9, True, True), Match(0.8, False, True), Match(0.3, True, True), Match(0.1, False, False)]
    )
    assert comparison.at(0.5) == {
        "threshold": 0.5,
        "regions": 2,
        "precision": 0.5,
        "recall": 0.25,
        "recall_any_name": 0.5,
    }
    assert comparison.at(0.95) == {"threshold": 0.95, "regions": 0, "precision": 0, "recall": 0, "recall_any_name": 0}
    assert comparison.curve() == [(0.25, 1), (0.25, 0.5), (0.5, 2 / 3), (0.5, 0.5)]

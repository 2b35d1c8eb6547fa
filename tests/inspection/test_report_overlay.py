"""Distributions and loss curves over each other: shares and distances by hand, lines where they belong."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inspection.report import charts
from inspection.report.counting import Counts
from inspection.report.overlay import apart, curves, distributions, folder_of

counters = st.dictionaries(st.integers(0, 8), st.integers(1, 50), min_size=1).map(Counter)


@given(counters, counters)
def test_the_distance_is_the_largest_difference_of_any_set_of_values(one: Counter[int], other: Counter[int]) -> None:
    """Total variation by its other definition: over all 512 sets of values."""
    p, q = (np.array([each[i] for i in range(9)]) / each.total() for each in (one, other))
    sets = (np.arange(512)[:, None] >> np.arange(9)) & 1
    assert apart(one, other) == pytest.approx(np.abs(sets @ (p - q)).max(), abs=1e-12)


def test_the_distance_of_nothing() -> None:
    assert apart(Counter(), Counter()) == 0
    assert apart(Counter(a=3), Counter()) == apart(Counter(), Counter(a=3)) == 1


def test_distributions_are_in_percent_and_those_that_differ_most_come_first() -> None:
    one = Counts(languages=Counter(en=3, de=1), regions=Counter({2: 10}), sides=Counter({100: 1, 300: 1}))
    sides = Counter({100: 9, 300: 9})
    other = Counts(languages=Counter(en=1, de=1, fr=2), regions=Counter({2: 4, 36: 12}), sides=sides)
    found = {chart.title: chart for chart in distributions((one, other))}
    # |3/4 − 1/4| + |1/4 − 1/4| + |0 − 2/4|, halved, is 1/2; of regions 3/4 lie elsewhere; of sizes nothing does.
    assert list(found) == ["Regions an image", "Languages", "Image size"]
    assert [chart.note.rpartition("; ")[2] for chart in found.values()] == ["75% apart", "50% apart", "0% apart"]
    titles = re.findall(r"<title>([^<]+)</title>", found["Languages"].drawing)
    assert titles == ["en: A 75 %, B 25 %", "fr: A 0 %, B 50 %", "de: A 25 %, B 25 %"]
    assert "A: 2 everywhere; B: median 36, from 2 to 36" in found["Regions an image"].note
    assert [name for _, name in found["Languages"].legend] == ["A", "B"]


def test_one_side_alone_is_drawn_and_the_other_said_to_have_none() -> None:
    (chart,) = distributions((Counts(similarities=Counter({4: 3, 6: 1})), Counts()))
    assert chart.note == "A: 4 values; B: none; 100% apart"
    assert chart.drawing.count("<polyline") == 2
    assert distributions((Counts(), Counts())) == []


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30))
@example([5e-324])
def test_an_outline_has_the_height_of_each_bin(shares: list[float]) -> None:
    edges = [float(i) for i in range(len(shares) + 1)]
    drawing = charts.outlines({"A": shares}, edges, "regions", {"A": "l0"})
    (points,) = re.findall(r'points="([^"]+)"', drawing)
    corners = [tuple(map(float, point.split(","))) for point in points.split()]
    frame = charts.Frame(0, len(shares), 0, charts.nice_ceiling(max(shares), charts.CLOSE))
    middles = [i + 0.5 for i in range(len(shares))]
    tops = [(x0, x1, y) for (x0, y), (x1, _) in pairwise(corners) if x0 < x1]
    heights = [next(y for x0, x1, y in tops if x0 <= frame.x(middle) <= x1) for middle in middles]
    assert heights == pytest.approx([frame.y(share) for share in shares], abs=0.051)


def test_a_recipe_has_one_colour_and_the_other_run_is_dashed(tmp_path: Path) -> None:
    for side, text in (("a", "step,mlm,itm\n10,4,1\n20,2.5,0.75\n"), ("b", "step,mlm\n10,3\n20,2\n")):
        (tmp_path / side).mkdir()
        (tmp_path / side / "train-uniter.csv").write_text(text)
    (tmp_path / "b" / "train-vilt.csv").write_text("step,mlm\n10,6\n20,5\n")
    itm, mlm = curves((tmp_path / "a", tmp_path / "b"))
    assert (itm.title, mlm.title) == ("Loss of itm", "Loss of mlm")
    assert mlm.legend == (("l0", "uniter, A"), ("l0 dashed", "uniter, B"), ("l1 dashed", "vilt, B"))
    assert mlm.note == "uniter, A ends at 2.5; uniter, B ends at 2; vilt, B ends at 5"
    assert itm.legend == (("l0", "uniter, A"),)
    assert mlm.drawing.count("<polyline") == 3
    assert curves((None, tmp_path / "nothing")) == []


def test_more_recipes_than_colours_are_several_charts(tmp_path: Path) -> None:
    for number in range(charts.COLOURS + 1):
        (tmp_path / f"train-recipe{number}.csv").write_text("step,mlm\n10,4\n")
    found = curves((tmp_path, None))
    assert [chart.drawing.count("<polyline") for chart in found] == [charts.COLOURS, 1]


def test_plots_lie_in_the_dataset_or_beside_it(tmp_path: Path) -> None:
    assert folder_of(tmp_path / "data", "plots") is None
    (tmp_path / "plots").mkdir()
    assert folder_of(tmp_path / "data", "plots") == tmp_path / "plots"
    (tmp_path / "data" / "plots").mkdir(parents=True)
    assert folder_of(tmp_path / "data", "plots") == tmp_path / "data" / "plots"

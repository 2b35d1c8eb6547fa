"""The numbers of a selection: the policy's own, those of a detector's file, those of the stage's settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pairloom.errors import ConfigError
from pairloom.typed import build
from stages.regions import Config
from stages.regions.select import POLICIES, select, thresholds


def detector(folder: Path, base: str, **numbers: Any) -> str:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({"base": base, **numbers}))
    return str(path)


@pytest.mark.parametrize(
    ("base", "numbers"),
    [
        ("milvlg-r101", {"min_regions": 1, "max_regions": 70}),
        ("milvlg-r152", {"min_regions": 100, "max_regions": 100}),
        ("milvlg-d2-r101", {"min_score": 0.0, "nms": 0.3}),
        ("butd-r101-hf", {"nms": [0.5, 0.6, 0.7, 0.8, 0.9]}),
        ("starter", {"max_regions": 20, "min_score": 0.5}),
    ],
)
def test_a_detectors_file_sets_the_numbers_of_its_selection(base: str, numbers: dict[str, Any], tmp_path: Path) -> None:
    policy = Config(detector=detector(tmp_path, base, **numbers)).policy()
    assert policy == build(Config, {"detector": base, **numbers}, "here").policy()
    for name, value in numbers.items():
        own = value if not isinstance(value, list) else value[0]
        assert getattr(policy, name) == own


def test_settings_go_over_the_file_and_another_selection_starts_from_its_own_numbers(tmp_path: Path) -> None:
    mine = detector(tmp_path, "butd-r101", min_regions=1, max_regions=70, nms=0.4)
    assert Config(detector=mine, nms=0.2).policy() == replace(POLICIES["butd"], min_regions=1, max_regions=70, nms=0.2)
    assert Config(detector=mine, selection="fixed-36").policy() == POLICIES["fixed-36"]


@pytest.mark.parametrize(
    ("given", "ends"),
    [
        ({"max_regions": 5}, (5, 5)),  # butd keeps 10 at least
        ({"max_regions": 50}, (10, 50)),
        ({"min_regions": 100}, (100, 100)),
        ({"min_regions": 1, "max_regions": 70}, (1, 70)),
        ({"min_regions": 0}, (0, 100)),
    ],
)
def test_the_end_that_is_not_given_gives_way(given: dict[str, int], ends: tuple[int, int]) -> None:
    policy = Config(detector="butd-r101", **given).policy()  # type: ignore[arg-type]
    assert (policy.min_regions, policy.max_regions) == ends


def test_steps_of_suppression_are_those_of_the_list() -> None:
    """Boxes of 10 × 1 whose overlaps with the best are 0.55 and 0.75. Each step lets one more stand."""
    assert thresholds(POLICIES["agnostic-stepped"]) == pytest.approx((0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9))
    assert thresholds(Config(detector="butd-r101-hf", nms=0.5).policy()) == pytest.approx((0.5, 0.6, 0.7, 0.8, 0.9))
    boxes = np.array([[0, 0, 100, 1], [0, 0, 55, 1], [0, 0, 75, 1]], np.float32)
    scores = np.array([[0.9], [0.8], [0.7]], np.float32)
    for steps, wanted, kept in (((0.5, 0.6), 2, [0, 1]), ((0.5, 0.8), 2, [0, 1, 2]), ((0.1, 0.2), 2, [0])):
        config = Config(detector="butd-r101-hf", nms=steps, min_regions=wanted, max_regions=3, faithful=True)
        assert select(boxes, scores, config.policy()).rows_K.tolist() == kept


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"detector": "butd-r101-hf", "nms": [0.5, 0.4]}, "thresholds that rise"),
        ({"detector": "butd-r101-hf", "nms": []}, "thresholds that rise"),
        ({"detector": "butd-r101-hf", "nms": [0.5, 1.5]}, "from 0 to 1"),
        ({"detector": "butd-r101", "nms": [0.3, 0.5]}, "one threshold"),
        ({"min_regions": 20, "max_regions": 10}, "at most max_regions"),
    ],
)
def test_numbers_that_fit_no_selection_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        build(Config, wrong, "here")
    assert message in str(raised.value)


def test_a_detectors_file_with_numbers_out_of_range_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="min_score is 2") as raised:
        Config(detector=detector(tmp_path, "butd-r101", min_score=2.0))
    assert "mine.yaml" in str(raised.value)

"""The report's chart of the most frequent hard negatives."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from inspection.report.negatives import most_frequent
from pairloom.errors import InputError
from stages.negatives import Config, mine
from stages.negatives.summary import summarise


def test_the_summary_and_its_chart_count_what_is_there(tmp_path: Path) -> None:
    texts = ["red dog runs", "red cat", "red bus", "blue sea", "red cat sits"]
    mined = mine(texts, list("abcde"), config=Config(top_k=2, ceiling=0.9))
    found = [one for row in mined["negatives"].to_pylist() for one in row]
    tables = [mined.slice(0, 2), mined.slice(2)]
    facts = summarise(tables, lambda: tables)
    assert facts["captions"] == 5
    assert facts["negatives"] == sum(facts["similarity_bins"].values()) == len(found)
    assert facts["short"] == sum(short > 0 for short in mined["short"].to_pylist())
    best = facts["most_frequent"][0]
    times = [sum(one["image_id"] == name for one in found) for name in "abcde"]
    assert best["times"] == max(times)
    assert best["text"] == texts["abcde".index(best["image_id"])]
    (tmp_path / "negatives.json").write_text(json.dumps({"summary": facts}), encoding="utf-8")
    (chart,) = most_frequent(tmp_path)
    assert best["text"] in chart.drawing
    assert f"{facts['short_share']:.1%}" in chart.note


def test_lists_by_image_are_counted_as_lists_by_caption_are() -> None:
    mined = mine(["red dog", "red cat", "red bus"], list("abc"), config=Config(top_k=2, ceiling=0.9))
    by_image = pa.table(
        {name: pa.array([mined[name].to_pylist()], pa.list_(mined[name].type)) for name in ("negatives", "short")}
    )
    assert summarise([by_image], lambda: [by_image]) == summarise([mined], lambda: [mined])
    assert summarise([], list)["captions"] == 0


def test_without_metrics_there_is_no_chart_and_broken_ones_are_named(tmp_path: Path) -> None:
    assert most_frequent(None) == most_frequent(tmp_path) == []
    (tmp_path / "negatives.json").write_text("[", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be read"):
        most_frequent(tmp_path)

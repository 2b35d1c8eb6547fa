"""Large tables are looked at in part, and lint and the report say so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspection.lint import examine, lint_text, sampling
from inspection.lint.sampling import STEPS, among
from inspection.report import counting, write_report
from pairloom.store.folder import open_folder
from tests.inspection.synthetic import FLOW, edit, rewrite


@given(ids=st.lists(st.binary(min_size=16, max_size=16)), share=st.floats(0, 1))
def test_the_lowest_ids_are_looked_at(ids: list[bytes], share: float) -> None:
    chosen = among(np.array(ids, "S16"), share)
    wanted = [int.from_bytes(one[:2], "big") < share * STEPS or share == 1 for one in ids]
    assert chosen.tolist() == wanted


def test_a_fault_among_those_that_are_looked_at_is_found_and_no_other_is_made_up(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "MOST", 9)
    found = examine(data, FLOW)
    assert found.problems == []
    assert any("about 9 of" in note for note in found.notes)
    assert lint_text(found.problems, found.notes).count("\n") == len(found.notes)
    share = 9 / open_folder(data / "curate").rows
    name = open_folder(data / "negatives").shards[0].name
    rows = open_folder(data / "negatives").read(name)["negatives"].to_pylist()
    row = next(row for row, lists in enumerate(rows) if among(np.array([lists[0][0]["image_id"]], "S16"), share)[0])
    change = edit("negatives", row, lambda lists: [[lists[0][0] | {"text": "not that"}, *lists[0][1:]], *lists[1:]])
    rewrite(data / "negatives", name, change)
    assert "reference" in {problem.check for problem in examine(data, FLOW).problems}


def test_a_report_of_many_shards_counts_some_and_says_so(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write_report(good, tmp_path / "whole.html", FLOW)
    monkeypatch.setattr(counting, "READ", 1)
    some = write_report(good, tmp_path / "some.html", FLOW)
    page = (tmp_path / "some.html").read_text(encoding="utf-8")
    assert "Counted in shards spread evenly over curate" in page
    assert "Over the whole dataset" not in page
    assert 0.5 < some["captions"] / whole["captions"] < 2

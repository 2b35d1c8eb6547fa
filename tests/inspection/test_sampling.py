"""Large tables are looked at in part, and lint and the report say so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspection import spread
from inspection.info import info, info_text
from inspection.lint import examine, leaks, lint_text, sampling
from inspection.lint.sampling import STEPS, among
from inspection.report import write_report
from pairloom.store.folder import open_folder
from tests.inspection.synthetic import FLOW, edit, rewrite
from tests.inspection.test_lint_rules import hashed


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
    monkeypatch.setattr(spread, "READ", 1)
    some = write_report(good, tmp_path / "some.html", FLOW)
    page = (tmp_path / "some.html").read_text(encoding="utf-8")
    assert "Counted in shards spread evenly over curate" in page
    assert "Over the whole dataset" not in page
    assert 0.5 < some["captions"] / whole["captions"] < 2


def test_captions_of_many_shards_are_counted_in_some_and_info_says_so(
    good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (whole,) = info(good / "curate", FLOW)["tables"]
    monkeypatch.setattr(spread, "READ", 1)
    (some,) = info(good / "curate", FLOW)["tables"]
    assert "kinds_where" not in whole
    assert sum(some["kinds"].values()) < sum(whole["kinds"].values())
    assert f"(in 1 of {whole['shards']} shards)" in info_text({"tables": [some]})


def test_in_a_large_table_a_picture_of_val_is_sought_in_all_of_train(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs, shards = open_folder(data / "curate"), open_folder(data / "shards")
    known = {row["image_id"]: row["phash"] for _, t in pairs.tables(["image_id", "phash"]) for row in t.to_pylist()}
    held_out, trained = (shards.read(name)["image_id"].to_pylist() for name in ("val-00000", "train-00000"))
    hashed(data, {held_out[1]: known[trained[2]] ^ 0b1011})
    whole = [problem for problem in examine(data, FLOW).problems if problem.check == "leak"]
    monkeypatch.setattr(leaks, "MOST", 9)
    assert [problem for problem in examine(data, FLOW).problems if problem.check == "leak"] == whole
    assert len(whole) == 1
    monkeypatch.setattr(leaks, "SOUGHT", 1)
    assert any("with the lowest ids, about, of" in note for note in examine(data, FLOW).notes)


def test_an_image_that_comes_twice_is_found_among_the_lowest_ids(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = open_folder(data / "curate")
    name = folder.shards[0].name
    lowest = min(folder.read(name)["image_id"].to_pylist())
    rewrite(
        data / "curate",
        name,
        lambda table: pa.concat_tables([table, table.filter(pc.equal(table["image_id"], lowest))]),
    )
    monkeypatch.setattr(sampling, "MOST", folder.rows - 1)
    found = examine(data, FLOW)
    assert any(problem.check == "duplicate" and lowest.hex() in problem.what for problem in found.problems)
    assert any("whether an image comes twice" in note for note in found.notes)

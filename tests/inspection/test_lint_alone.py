"""What lint finds in a folder of shards alone by the pictures themselves, and what it says where it looks at a part."""

from __future__ import annotations

import hashlib
import io
import shlex
from pathlib import Path

import pytest
from PIL import Image

from inspection.lint import examine, leaks, lint, lint_text, rules
from pairloom.store.folder import open_folder
from pipeline.cli import main
from tests.inspection.synthetic import FLOW, edit, rewrite
from tests.inspection.test_lint_rules import both


def lookalike(image: bytes) -> bytes:
    """The same picture at another quality: other bytes, nearly the same hash."""
    sink = io.BytesIO()
    Image.open(io.BytesIO(image)).save(sink, "JPEG", quality=60)
    return sink.getvalue()


def plant_lookalike(shards: Path, row: int) -> bytes:
    """Put a picture that looks like the first of train into this row of val. Gives the id of the first of train."""
    twin = open_folder(shards).read("train-00000", ["image", "image_id"]).slice(0, 1).to_pylist()[0]
    image = lookalike(twin["image"])
    digest = hashlib.sha256(image).digest()[:16]
    rewrite(shards, "val-00000", both(edit("image", row, lambda _: image), edit("image_id", row, lambda _: digest)))
    known: bytes = twin["image_id"]
    return known


def test_a_picture_in_val_that_looks_like_one_in_train_is_found_in_the_shards_alone(data: Path) -> None:
    shards = data / "shards"
    twin = plant_lookalike(shards, 1)
    (found,) = [one for one in lint(shards, FLOW) if one.check == "leak"]
    assert (found.row, Path(found.file).name) == (1, "val-00000.parquet")
    assert twin.hex() in found.what


def test_the_cure_of_a_leak_in_shards_alone_works(data: Path, tmp_path: Path) -> None:
    shards = data / "shards"
    plant_lookalike(shards, 1)
    (found,) = [one for one in lint(shards, FLOW) if one.check == "leak"]
    command = found.fix.split("`")[1].replace("NEW", str(tmp_path / "new"))
    assert main(shlex.split(command)[1:]) == 0
    assert [one for one in lint(tmp_path / "new", FLOW) if one.check == "leak"] == []
    assert open_folder(tmp_path / "new").rows == open_folder(shards).rows - 1


def test_what_is_looked_at_in_part_is_said(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "DECODED", 5)
    monkeypatch.setattr(leaks, "HASHED", 2)
    findings = examine(data / "shards", FLOW)
    assert findings.problems == []
    rows = open_folder(data / "shards").rows
    assert [f"about 5 of {rows}" in findings.notes[0], f"4 of {rows}" in findings.notes[1]] == [True, True]
    assert lint_text([], findings.notes).count("\n") == 3  # with what is only a demo

"""Moving code moved no byte: tables, their files and training curves are those of before (tests/fixed.py)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import fixed
from tests.pairloom.loader.loading import write_folder
from tests.training import train
from trainer import loop

BEFORE = json.loads((Path(__file__).parent / "fixed.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    return fixed.build(tmp_path_factory.mktemp("fixed"))


@pytest.mark.parametrize("stage", sorted(BEFORE["tables"]))
def test_a_table_holds_what_it_held(stage: str, found: dict[str, dict[str, str]]) -> None:
    assert found[stage]["content"] == BEFORE["tables"][stage]["content"]


@pytest.mark.parametrize("stage", sorted(BEFORE["tables"]))
def test_its_files_have_the_bytes_that_they_had(stage: str, found: dict[str, dict[str, str]]) -> None:
    if fixed.versions() != BEFORE["versions"]:
        pytest.skip(f"other libraries write other bytes: {fixed.versions()}")
    assert found[stage]["files"] == BEFORE["tables"][stage]["files"]


@pytest.mark.parametrize("name", sorted(BEFORE["curves"]))
def test_a_recipe_learns_as_it_did(name: str, tmp_path: Path) -> None:
    shards = write_folder(tmp_path, (9, 8), splits=("train", "val"))
    config = loop.Config(size="tiny", steps=6, batch_size=8, seed=5, threads=1, device="cpu")
    curve = train(name, shards, config).curve
    assert len(curve) == len(BEFORE["curves"][name]) == 6
    for point, before in zip(curve, BEFORE["curves"][name], strict=True):
        assert [loss is None for loss in point.values()] == [loss is None for loss in before.values()]
        known = {objective: loss for objective, loss in before.items() if loss is not None}
        assert {objective: point[objective] for objective in known} == pytest.approx(known, rel=1e-3)

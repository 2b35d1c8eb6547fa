"""Each stage fits stages/contract.py: mypy checks the assignments, a test that no stage and no part is missing."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import cast

import pytest

from pipeline.stage import names
from stages import contract, curate, download, negatives, neighbours, patches, qa, regions, score, shards, similar, tags
from stages.folder import regions as folder_regions
from stages.regions import published, starter
from stages.regions.contract import Family

STAGES: tuple[contract.Stage, ...] = (
    *(curate, download, negatives, neighbours, patches, qa, regions, score, shards, similar, tags),
    folder_regions,  # `pairloom extract` runs it by its dotted name
)
ASKING: tuple[contract.Asking, ...] = (curate, negatives, neighbours, qa, shards)
ASKING_BY_FEW: tuple[contract.AskingByFew, ...] = (negatives,)
SPARING: tuple[contract.Sparing, ...] = (curate, negatives, neighbours, qa, score, similar)
SCOPED: tuple[contract.Scoped, ...] = (curate, negatives, neighbours, qa, shards, similar)
SCOPED_BY_SETTINGS: tuple[contract.ScopedBySettings, ...] = (curate,)
INDEXING: tuple[contract.Indexing, ...] = (curate, negatives, neighbours, qa, similar)
GROWING: tuple[contract.Growing, ...] = (negatives,)
PLANNING: tuple[contract.Planning, ...] = (shards,)
RESOURCEFUL: tuple[contract.Resourceful, ...] = (curate, download, patches, qa, regions, score, tags, folder_regions)
SUMMING: tuple[contract.Summing, ...] = (curate, negatives, neighbours, qa, score, similar)
LINKING: tuple[contract.Linking, ...] = (curate, shards)
CHECKING: tuple[contract.Checking, ...] = (curate, download)
RECALLING: tuple[contract.Recalling, ...] = (download,)
OVERLAPPING: tuple[contract.Overlapping, ...] = (download,)
ACCELERATED: tuple[contract.Accelerated, ...] = (negatives, patches, regions, score, folder_regions)
MERGING: tuple[contract.Merging, ...] = (curate,)
TAKING: tuple[contract.Taking, ...] = (negatives,)
ADVISING: tuple[contract.Advising, ...] = (patches, qa, regions)

FAMILIES: tuple[Family, ...] = (published, starter)


def test_every_stage_is_checked() -> None:
    checked = {cast(ModuleType, module).__name__ for module in STAGES}
    assert checked == {*(f"stages.{name}" for name in names()), "stages.folder.regions"}


@pytest.mark.parametrize(
    ("part", "having"),
    [
        ("inputs", ASKING),
        ("ASKING", ASKING_BY_FEW),
        ("COLUMNS", SPARING),
        ("SCOPE", SCOPED),
        ("scope", SCOPED_BY_SETTINGS),
        ("index", INDEXING),
        ("grow", GROWING),
        ("plan", PLANNING),
        ("resources", RESOURCEFUL),
        ("summary", SUMMING),
        ("check", CHECKING),
        ("recall", RECALLING),
        ("OVERLAP", OVERLAPPING),
        ("wants_gpu", ACCELERATED),
        ("DISTINCT", MERGING),
        ("TAKES", TAKING),
        ("ASKED_BY", ADVISING),
    ],
)
def test_every_stage_with_an_optional_part_is_checked(part: str, having: tuple[object, ...]) -> None:
    assert {module for module in STAGES if hasattr(module, part)} == set(having)


def test_settings_by_which_a_stage_asks_are_its_own() -> None:
    for stage in ASKING_BY_FEW:
        module = cast(contract.Stage, stage)
        assert set(stage.ASKING) <= set(module.Config.__dataclass_fields__)


def test_every_family_of_detectors_is_checked() -> None:
    folder = Path(regions.__file__).parent
    sources = {file: file.read_text(encoding="utf-8") for file in (*folder.glob("*.py"), *folder.glob("*/__init__.py"))}
    loading = {file for file, text in sources.items() if "\ndef load(" in text and "\ndef checkpoint_file(" in text}
    assert loading == {Path(cast(ModuleType, family).__file__ or "") for family in FAMILIES}

"""One good dataset, made once and copied for each test that spoils it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.inspection.synthetic import make_dataset


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset without any problem. Not to be changed."""
    return make_dataset(tmp_path_factory.mktemp("good") / "data")


@pytest.fixture
def data(good: Path, tmp_path: Path) -> Path:
    """A copy of it, to spoil."""
    return Path(shutil.copytree(good, tmp_path / "data"))

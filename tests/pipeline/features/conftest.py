"""Shards that several files export."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipeline.features import pairs


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training shards of pairs with pictures (tests/pipeline/features/pairs.py)."""
    return pairs.write(tmp_path_factory.mktemp("pairs") / "shards")

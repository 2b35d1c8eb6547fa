"""Servers for the tests of fetching."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stages.download.hostile import HostileServer


@pytest.fixture
def hostile() -> Iterator[HostileServer]:
    server = HostileServer()
    yield server
    server.close()

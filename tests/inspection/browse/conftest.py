"""The command that shows a dataset, and Chromium that looks. Each file of tests has its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.inspection.browse.site import make_other, make_site, shown
from tests.inspection.browser import find_browser


@dataclass
class Looked:
    """A page of the browser, what its console said and what it asked for."""

    page: Any
    address: str
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def open(self, path: str) -> Any:
        self.page.goto(self.address + path, wait_until="load")
        return self.page


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_site(tmp_path_factory.mktemp("site") / "data")


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_other(tmp_path_factory.mktemp("other") / "data")


@pytest.fixture(scope="module")
def address(data: Path, other: Path) -> Iterator[str]:
    with shown(data, other) as found:
        yield found


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = find_browser()
    if not found:
        pytest.skip("no Chromium here: the pages were not looked at")
    with playwright.sync_playwright() as driver:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
        browser = driver.chromium.launch(executable_path=found, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def looked(chromium: Any, address: str) -> Iterator[Looked]:
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    found = Looked(context.new_page(), address)
    found.page.set_default_timeout(30_000)
    found.page.on("console", lambda message: found.console.append(message.text))
    found.page.on("pageerror", lambda error: found.console.append(str(error)))
    found.page.on("request", lambda request: found.requests.append(request.url))
    yield found
    context.close()
    assert all(url.startswith(address) for url in found.requests), found.requests

"""The site of docs/ builds with strict links, asks no other host for anything, and can be read in a real browser."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.inspection.browse.conftest import Looked, chromium
from tests.inspection.browse.test_reading import serious
from tests.serving import served

HERE = Path(__file__).parents[1]
LOOKED_AT = (  # a page of each kind, a wide table and long code among them
    *("index", "tutorial/first-shards", "how-to/import", "lab/benchmarks"),
    *("reference/detector-catalogue", "reference/errors"),
)
__all__ = ["chromium"]  # a fixture
LOADS = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}


class Loaded(HTMLParser):
    """What a browser fetches when it opens a page, by itself."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value for name, value in attrs if name == LOADS.get(tag) and value]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_of_docs_is_in_the_site(site: Path) -> None:
    pages = {path.relative_to(HERE / "docs").with_suffix(".html") for path in (HERE / "docs").rglob("*.md")}
    assert pages <= {path.relative_to(site) for path in site.rglob("*.html")}


def test_no_page_asks_another_host_for_anything(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert pages
    for page in pages:
        addresses = Loaded(page.read_text(encoding="utf-8")).addresses
        assert addresses
        assert not [each for each in addresses if re.match(r"(\w+:)?//", each)], page
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", style.read_text(encoding="utf-8")), style


@pytest.fixture(params=["light", "dark"])
def looked(request: pytest.FixtureRequest, chromium: Any, site: Path) -> Iterator[Looked]:
    """A page of the browser on the served site, in each colour scheme. Nothing may be asked of another host."""
    with served(site) as host:
        context = chromium.new_context(viewport={"width": 1280, "height": 900}, color_scheme=request.param)
        found = Looked(context.new_page(), f"http://{host}/")
        found.page.set_default_timeout(30_000)
        found.page.on("console", lambda message: found.console.append(message.text))
        found.page.on("pageerror", lambda error: found.console.append(str(error)))
        found.page.on("request", lambda asked: found.requests.append(asked.url))
        yield found
        context.close()
    assert found.requests
    assert [url for url in found.requests if not url.startswith(found.address)] == []


@pytest.mark.browser
@pytest.mark.parametrize("page", LOOKED_AT)
def test_a_page_can_be_read_in_light_and_dark(looked: Looked, page: str) -> None:
    """No line on the console, and nothing serious in what axe-core finds."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is not installed").Axe()
    shown = looked.open(f"{page}.html")
    assert serious(axe.run(shown).response) == []
    assert looked.console == []


@pytest.mark.browser
def test_the_search_answers_and_leads_to_a_page(looked: Looked) -> None:
    page = looked.open("index.html")
    page.get_by_role("textbox", name="Search").fill("quarantine")
    first = page.locator(".md-search-result__link").first
    first.wait_for()
    first.click()
    page.wait_for_url("**.html**")
    assert "quarantine" in page.locator("article").inner_text()
    assert looked.console == []

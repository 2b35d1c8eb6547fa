"""Every page can be read by everybody: on a phone and a wide screen, in light and dark, and by axe-core's rules."""

from __future__ import annotations

from typing import Any

import pytest

from tests.inspection.browse.conftest import Looked
from tests.inspection.browse.site import settled

pytestmark = pytest.mark.browser
PAGES = (
    "./", "pictures?cls=cat&order=class&score=0.5", "row?t=curate&shard=00000&row=3",
    "left-out?t=download", "left?t=curate&shard=00000&row=0", "negatives", "rules?a=laion&b=coyo",
    "compare", "faults", "pictures?where=1)",
)  # fmt: skip
WIDTHS = (390, 2560)  # pixels of a phone and of a wide screen
ERRS = "Failed to load resource: the server responded with a status of 400 (Bad Request)"  # the last of the pages


@pytest.mark.parametrize("path", PAGES)
def test_a_page_can_be_read(looked: Looked, path: str) -> None:
    """Without a serious finding of axe-core, not wider than the screen, without an error in the console."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is not installed").Axe()
    page = looked.open(path)
    settled(page)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            # Dark differs by its colours alone.
            only = {"runOnly": ["color-contrast"]} if scheme == "dark" else {}
            found = axe.run(page, options=only | {"resultTypes": ["violations"]})  # what is right would be megabytes
            assert serious(found.response) == [], (width, scheme)
    assert [line for line in looked.console if line != ERRS] == []


def serious(response: dict[str, Any]) -> list[tuple[str, str]]:
    """(rule, an element) of each serious finding."""
    found = [one for one in response["violations"] if one["impact"] in ("serious", "critical")]
    return [(one["id"], one["nodes"][0]["html"]) for one in found]


def test_axe_would_find_what_cannot_be_read(looked: Looked) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is not installed").Axe()
    page = looked.open("./")
    page.evaluate("document.querySelector('h1').setAttribute('style', '')")
    page.evaluate("document.querySelector('h1').style.color = 'rgb(230, 230, 230)'")
    assert [rule for rule, _ in serious(axe.run(page, options={"runOnly": ["color-contrast"]}).response)] == [
        "color-contrast"
    ]

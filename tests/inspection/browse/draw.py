"""The pictures of docs/how-to/look-at-data.md: `python -m tests.inspection.browse.draw docs/how-to`.

They show the tests' own datasets of drawn squares, so that no photograph is kept in the repository.
"""

from __future__ import annotations

import io
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from tests.inspection.browse.site import GONE, make_other, make_site, settled, shown
from tests.inspection.browser import find_browser

# Name of the picture -> the page, and what of it is at the top.
PAGES = {
    "browse": ("pictures?cls=cat&order=class&min_regions=3", "body"),
    "browse-way": (f"find?q={GONE}", "main"),
    "browse-rules": ("rules?a=laion&b=coyo&min_similarity=0.3", "h2"),
    "browse-negatives": ("negatives?d=1", "main"),
    "browse-compare": ("compare", "#distributions"),
}


def draw(out: Path) -> None:
    """One PNG a page, at three quarters of its size and with few colours."""
    browser = find_browser()
    assert browser, "install Chromium first"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        site = make_site(folder / "squares" / "data")
        other = make_other(folder / "scenes" / "data")
        address = stack.enter_context(shown(site, other))
        driver = stack.enter_context(sync_playwright())
        chromium = driver.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        page = chromium.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
        for name, (path, top) in PAGES.items():
            page.goto(address + path, wait_until="networkidle")
            shot(page, top, str(folder)).save(out / f"{name}.png", optimize=True)
        chromium.close()


def shot(page: Any, top: str, folder: str) -> Image.Image:
    """What the window shows once the page's work is over, from this element on, without this machine's folders."""
    settled(page)
    hide = """([top, folder]) => {
        // A machine without a font for Chinese would draw empty squares.
        for (const text of document.querySelectorAll("li:has([lang=zh]), .caption:has([lang=zh])")) text.remove();
        for (const link of document.querySelectorAll("nav.datasets a, option"))
            link.textContent = link.textContent.replace(folder + "/", "");
        document.querySelector(top).scrollIntoView();
    }"""
    page.evaluate(hide, [top, folder])
    page.wait_for_timeout(500)  # pictures that are loaded when they come into view
    with Image.open(io.BytesIO(page.screenshot())) as taken:
        small = taken.convert("RGB").resize((960, 675), Image.Resampling.LANCZOS)
    return small.quantize(256, dither=Image.Dither.NONE)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))

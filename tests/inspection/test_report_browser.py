"""The report in a real browser: no error on its console, its rows in the DOM, and it fits a phone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image
from skimage import data as photographs

from inspection.report import write_report
from pairloom.store.folder import open_folder
from tests.inspection.browser import find_browser, open_page, screenshot
from tests.inspection.synthetic import FLOW, edit, make_dataset, rewrite

BROWSER = find_browser() or ""
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not BROWSER, reason="no Chromium here: install it (`apt-get install chromium`) to look at the report"
    ),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report about a dataset with photographs among its scenes, beside one without, and with duplicates left out."""
    folder = tmp_path_factory.mktemp("report")
    pictures = [Image.open(Path(photographs.__file__).parent / f"{name}.png") for name in ("chelsea", "coffee")]
    data, other = make_dataset(folder / "data", pictures), make_dataset(folder / "other" / "data")
    stayed = open_folder(data / "curate").read("00001", ["image_id"])["image_id"][0].as_py().hex()
    rewrite(data / "quarantine" / "curate", "00000", edit("reason", 0, lambda _: "near-duplicate"))
    rewrite(data / "quarantine" / "curate", "00000", edit("detail", 0, lambda _: f"of {stayed}, 3 bits apart"))
    for place, losses in ((data, "10,4\n20,3\n"), (other, "10,4\n20,2\n")):
        (place / "plots").mkdir()
        (place / "plots" / "train-uniter.csv").write_text(f"step,mlm\n{losses}")
    write_report(data, folder / "report.html", FLOW, None, data / "plots", other, "other/data")
    return folder / "report.html"


def changed(report: Path, name: str, script: str) -> Path:
    """The report with one script more, as a new file."""
    page = report.with_name(name)
    page.write_text(report.read_text(encoding="utf-8").replace("</body>", f"<script>{script}</script></body>"))
    return page


def test_the_report_opens_without_a_console_error_and_holds_its_rows(report: Path, tmp_path: Path) -> None:
    opened = open_page(BROWSER, report, tmp_path / "profile")
    assert opened.console == []
    for text in ("not-found", "http://sample.invalid/gone-00000.jpg", "picture 3 shows a", "caption-length"):
        assert text in opened.dom
    assert opened.dom.count('class="card picture-card"') == 18
    assert len(re.findall('class="box s[01]"', opened.dom)) == 17 * 2
    assert ">German</span>" in opened.dom  # a script made words of the language codes
    assert ">Chinese</span>" in opened.dom


def test_a_fault_of_the_page_would_be_seen(report: Path, tmp_path: Path) -> None:
    page = changed(report, "faulty.html", "no.such.thing")
    assert any("ReferenceError" in line for line in open_page(BROWSER, page, tmp_path / "a").console)
    page = changed(
        report, "outward.html", "document.body.append(Object.assign(new Image(), {src: 'http://sample.invalid/x'}))"
    )
    assert any("Content Security Policy" in line for line in open_page(BROWSER, page, tmp_path / "b").console)


def test_a_tag_lights_up_its_box(report: Path, tmp_path: Path) -> None:
    script = """
        const chip = document.querySelector(".chips [data-region='1']");
        const lit = () => [...document.querySelectorAll(".box.on")].map(box => box.dataset.region).join();
        chip.dispatchEvent(new Event("mouseenter")); const during = lit();
        chip.dispatchEvent(new Event("mouseleave")); document.title = `during ${during} after ${lit()}.`;"""
    opened = open_page(BROWSER, changed(report, "lit.html", script), tmp_path / "profile")
    assert "<title>during 1 after .</title>" in opened.dom


@pytest.mark.parametrize("width", [360, 390, 1200, 2560])
def test_nothing_is_wider_than_the_screen(report: Path, tmp_path: Path, width: int) -> None:
    changed(
        report,
        f"inner-{width}.html",
        "parent.postMessage([document.documentElement.scrollWidth, innerWidth].join(), '*')",
    )
    frame = report.with_name(f"frame-{width}.html")
    frame.write_text(
        f"<iframe src=inner-{width}.html style='width:{width}px;height:800px;border:0'></iframe>"
        "<script>onmessage = message => { document.title = message.data }</script>"
    )
    opened = open_page(BROWSER, frame, tmp_path / "profile")
    assert f"<title>{width},{width}</title>" in opened.dom


def test_the_report_is_drawn(report: Path, tmp_path: Path) -> None:
    # The table of stages grows with each stage, so the pictures are moved to the top of what is drawn.
    script = "document.querySelector('main section').before(document.querySelector('#pictures'))"
    page = changed(report, "drawn.html", script)
    shot = screenshot(BROWSER, page, tmp_path / "profile", tmp_path / "shot.png", (1200, 1600))
    with Image.open(shot) as image:
        assert image.size == (1200, 1600)
        colours = image.convert("RGB").getcolors(1200 * 1600)
    assert len(colours or []) > 10_000  # photographs are there, not only boxes and text


def test_the_report_can_be_read_by_everybody(report: Path, tmp_path: Path) -> None:
    """By axe-core without a finding, in light and dark; boxes are no stops of the Tab key; the search finds."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.goto(report.resolve().as_uri())
            assert [found["id"] for found in axe.Axe().run(page).response["violations"]] == []
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert page.locator(".duplicate img").count() == 2
        assert page.locator("#beside .chart").count() >= 6
        assert page.locator(".box[tabindex]").count() == 0
        page.get_by_label("search in these pictures").fill("Nummer 13")
        shown = page.locator(".picture-card:visible").all_inner_texts()
        assert len(shown) == 1
        assert page.locator("#searched").inner_text() == "1 found"
        browser.close()

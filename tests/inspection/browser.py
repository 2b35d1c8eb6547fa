"""Open a page in headless Chromium: what its DOM became, what its console said, how it looks.

`python -m tests.inspection.browser data/report/index.html docs/report.png` draws the README's picture of the report.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--v=0",
    "--virtual-time-budget=5000",
)
TIMEOUT_S = 120


@dataclass(frozen=True)
class Opened:
    """A page after its scripts ran. Console holds every line that it logged, errors among them."""

    dom: str
    console: list[str]


def find_browser() -> str | None:
    return next((path for path in map(shutil.which, NAMES) if path), None)


def open_page(browser: str, page: Path, profile: Path) -> Opened:
    """The page's DOM and console. profile: a folder that does not exist yet."""
    done = _run(browser, profile, ["--dump-dom"], page)
    return Opened(done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line])


def screenshot(browser: str, page: Path, profile: Path, out: Path, size: tuple[int, int]) -> Path:
    """The upper left corner of the page as PNG. A window is at least 500 pixels wide."""
    _run(browser, profile, [f"--screenshot={out}", f"--window-size={size[0]},{size[1]}"], page)
    return out


def _run(browser: str, profile: Path, flags: list[str], page: Path) -> subprocess.CompletedProcess[str]:
    command = [browser, *FLAGS, f"--user-data-dir={profile}", *flags, page.resolve().as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True, encoding="utf-8")


def draw_for_readme(page: Path, out: Path) -> None:
    """The report's head, stages and first pictures, small enough for a README."""
    browser = find_browser()
    assert browser, "install Chromium first"
    shown = (
        "<style>section { margin: 28px 0 !important } section:not(#flow, #pictures) { display: none }</style></head>"
    )
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part.html"
        part.write_text(page.read_text(encoding="utf-8").replace("</head>", shown), encoding="utf-8")
        shot = screenshot(browser, part, Path(folder) / "profile", Path(folder) / "shot.png", (1200, 1600))
        with Image.open(shot) as image:
            small = image.convert("RGB").resize((900, 1200), Image.Resampling.LANCZOS)
    small.quantize(200, dither=Image.Dither.NONE).save(out, optimize=True)


if __name__ == "__main__":
    draw_for_readme(Path(sys.argv[1]), Path(sys.argv[2]))

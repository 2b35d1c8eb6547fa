"""Write the pages of docs/ that the code itself decides: `python -m pipeline.pages`."""

from __future__ import annotations

from pathlib import Path

from inspection import reasons, tables
from pipeline import api_page, command_page, detectors_page, errors_page, recipes_page, settings_page
from pipeline.stage import flow


def pages() -> dict[str, str]:
    """Every generated page -> what it holds now."""
    return {
        tables.PAGE: tables.tables_markdown(flow().tables()),
        settings_page.PAGE: settings_page.settings_markdown(),
        command_page.PAGE: command_page.command_markdown(),
        reasons.PAGE: reasons.reasons_markdown(),
        recipes_page.PAGE: recipes_page.recipes_markdown(),
        detectors_page.PAGE: detectors_page.detectors_markdown(),
        api_page.PAGE: api_page.api_markdown(),
        errors_page.PAGE: errors_page.errors_markdown(),
    }


if __name__ == "__main__":
    for page, text in pages().items():
        Path(page).write_text(text, encoding="utf-8")

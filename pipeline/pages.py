"""Write the pages of docs/ that the code itself decides: `python -m pipeline.pages`."""

from __future__ import annotations

from pathlib import Path

from inspection import tables
from pipeline import settings_page
from pipeline.stage import flow

if __name__ == "__main__":
    Path(tables.PAGE).write_text(tables.tables_markdown(flow().tables()), encoding="utf-8")
    Path(settings_page.PAGE).write_text(settings_page.settings_markdown(), encoding="utf-8")

"""Write the pages of docs/ that the code itself decides: `python -m pipeline.pages`."""

from __future__ import annotations

from pathlib import Path

from inspection.tables import PAGE, tables_markdown
from pipeline.stage import flow

if __name__ == "__main__":
    Path(PAGE).write_text(tables_markdown(flow().tables()), encoding="utf-8")

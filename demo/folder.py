"""The files of a demo's folder, and what is left of it for a list of the user's own; needs nothing that draws."""

from __future__ import annotations

import shutil
from pathlib import Path

FOLDER, RULES, TRUTHS, QUESTIONS = "pictures", "server.json", "truth.parquet", "questions.json"


def clear(folder: Path) -> None:
    """Make the folder if need be, and leave it without a demo's files and with nothing for the server to say."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / FOLDER).is_dir():
        shutil.rmtree(folder / FOLDER)
    for name in (TRUTHS, QUESTIONS):
        (folder / name).unlink(missing_ok=True)
    (folder / RULES).write_text("{}\n", encoding="utf-8")

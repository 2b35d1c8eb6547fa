"""A demo: the description that ships, and the files of its folder, emptied for a list of one's own. Draws nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

DESCRIPTION = Path(__file__).with_name("demo.yaml")
FOLDER, RULES, TRUTHS, QUESTIONS = "pictures", "server.json", "truth.parquet", "questions.json"


def clear(folder: Path) -> None:
    """Make the folder if need be, and leave it without a demo's files and with nothing for the server to say."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / FOLDER).is_dir():
        shutil.rmtree(folder / FOLDER)
    for name in (TRUTHS, QUESTIONS):
        (folder / name).unlink(missing_ok=True)
    (folder / RULES).write_text("{}\n", encoding="utf-8")

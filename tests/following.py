"""Follows a page of docs/ as its reader does: every block of commands, in order, in one folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parents[1]
BLOCK = re.compile(r"(<!-- not run[^\n]*-->\n\n?)?^```(python|yaml)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\S+\.(?:yaml|py))\n")
INSTALLS = "make venv"  # this environment is what it makes


def environment() -> dict[str, str]:
    """That of this process, with the programs beside this Python first."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(HERE)}


def follow(page: str, folder: Path) -> dict[str, str]:
    """Block of code -> what it printed. A block whose first line names a file is written there."""
    printed: dict[str, str] = {}
    for skipped, language, code in BLOCK.findall(page):
        if named := FILE.match(code):
            (folder / named[1]).parent.mkdir(exist_ok=True)
            (folder / named[1]).write_text(code, encoding="utf-8")
        elif not skipped and INSTALLS not in code:
            assert language != "yaml", code
            printed[code] = printed.get(code, "") + run(language, code, folder)
    return printed


def run(language: str, code: str, folder: Path) -> str:
    """What a block prints. Fails where one of its commands fails."""
    command = [sys.executable, "-c", code] if language else ["bash", "-ec", code]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr

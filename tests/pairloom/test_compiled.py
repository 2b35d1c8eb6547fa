"""Compiling is said once, and what was compiled is kept for the next process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
SCRIPT = """
from pairloom.compiled import compiled

@compiled
def twice(value):
    return 2 * value

@compiled
def thrice(value):
    return twice(value) + value

print(thrice(7))
"""


def test_compiling_is_said_once_on_a_machine(tmp_path: Path) -> None:
    (tmp_path / "numbers_of.py").write_text(SCRIPT, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(HERE), "NUMBA_CACHE_DIR": str(tmp_path / "kept")}
    said = []
    for _ in range(2):
        command = [sys.executable, str(tmp_path / "numbers_of.py")]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert ran.stdout == "21\n"
        said.append(ran.stderr)
    assert said == ["compiling __main__ and what it needs, once on this machine: up to a minute\n", ""]

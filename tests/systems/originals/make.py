"""Makes the fixed numbers again: `python -m tests.systems.originals.make FOLDER [SYSTEM …]`.

FOLDER has the original repositories as OWNER/NAME, each file as at the commit that the .json files name for it. Each
system's numbers and the checksums of the functions that gave them go to its .json file here. `--check` writes nothing,
and says what differs.
"""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

from tests.systems.originals.drawn import HERE


def systems() -> list[str]:
    """Those that have a module here."""
    others = {"__init__", "drawn", "in_torch", "make", "ours", "rates", "taking"}
    return sorted({path.stem for path in HERE.glob("[a-z]*.py") if not path.stem.startswith("test_")} - others)


def main() -> int:
    """1 if `--check` finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("systems", nargs="*", metavar="SYSTEM")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    differing = 0
    for system in arguments.systems or systems():
        text = made(system, arguments.folder)
        path = HERE / f"{system}.json"
        same = path.is_file() and path.read_text(encoding="utf-8") == text
        print(f"{system}: {'as before' if same else 'differs'}")
        differing += not same
        if not arguments.check:
            path.write_text(text, encoding="utf-8")
    return int(arguments.check and differing > 0)


def made(system: str, folder: Path) -> str:
    """The text of the system's .json file."""
    facts, numbers = importlib.import_module(f"tests.systems.originals.{system}").run(folder)
    return json.dumps({"original": facts, "numbers": rounded(numbers)}, indent=1) + "\n"


def rounded(value: Any) -> Any:
    """Twelve digits, so that another processor's last bit changes no file."""
    if isinstance(value, float):
        return float(f"{value:.12g}")
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


if __name__ == "__main__":
    raise SystemExit(main())

"""Where the modules are that a recipe names: those of this room, and a user's own beside his recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Shelf:
    """Finds units, models and objectives by name: first in the user's folder, then among those that ship.

    beside: the folder of the user's recipe. Its modules are KIND/NAME.py or NAME.py there, and replace ours of the same
    name. None: only ours.
    """

    beside: str | None = None

    def home(self, kind: str, name: str) -> str | None:
        """The dotted name of one of ours, the file of the user's, or None."""
        own = [] if self.beside is None else [Path(self.beside) / kind / f"{name}.py", Path(self.beside) / f"{name}.py"]
        for file in own:
            if file.is_file():
                return str(file)
        return f"systems.{kind}.{name}" if name in _ours(kind) else None

    def names(self, kind: str) -> list[str]:
        """Those of this kind: ours, and the user's in a folder of the kind's name."""
        own = set() if self.beside is None else {path.stem for path in (Path(self.beside) / kind).glob("[a-z]*.py")}
        return sorted(own | _ours(kind))


def _ours(kind: str) -> set[str]:
    return {path.stem for path in (HERE / kind).glob("[a-z]*.py")}

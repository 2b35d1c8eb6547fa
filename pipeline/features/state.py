"""How far an export is: which shards are in its files already, and where each writer was then."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pairloom.errors import StoreError
from pairloom.store.writing import replace_text

STATE = ".export.json"


class State:
    """Which shards are in the files already, and how far each writer was then. Beside the files till they are whole."""

    def __init__(self, path: Path, settings: Mapping[str, Any], content: Mapping[str, Any]) -> None:
        self._path, self._settings = path, dict(settings)
        self.done: list[str] = list(content.get("done", []))
        self.finished: list[str] = list(content.get("finished", []))
        self.writer: dict[str, Any] = dict(content.get("writer", {}))

    @classmethod
    def open(cls, out: Path, settings: Mapping[str, Any]) -> State:
        """Raises StoreError where the folder holds something else."""
        path = out / STATE
        if not path.exists():
            if out.exists() and any(out.iterdir()):
                raise StoreError("the folder is not empty", str(out), "name another with --out, or remove it first")
            out.mkdir(parents=True, exist_ok=True)
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if content and content["settings"] != dict(settings):
            what = f"an export of {content['settings']['layout']} was begun here, of other shards or settings"
            raise StoreError(what, str(out), "name another folder with --out, or remove this one")
        found = cls(path, settings, content)
        found.save()
        return found

    def save(self) -> None:
        content = {"settings": self._settings, "done": self.done, "finished": self.finished, "writer": self.writer}
        replace_text(self._path, json.dumps(content))

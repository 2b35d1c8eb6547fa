"""Pictures as files, and lists that become one JSON at the end."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from formats.exports.pairs import Pair
from formats.features.lines import LineFile, lines
from formats.features.writing import put


def picture(folder: Path, pair: Pair) -> str:
    """Write the pair's picture below FOLDER/images. Returns its path in FOLDER, empty without a picture."""
    if not pair.image:
        return ""
    put(folder / "images", pair.file_name, pair.image)
    return f"images/{pair.file_name}"


class Lists:
    """Several lists of JSON objects, a line each, in hidden files that can be gone on with."""

    def __init__(self, folder: Path, names: tuple[str, ...], state: Mapping[str, Any]) -> None:
        self._paths = {name: folder / f".{name}.jsonl" for name in names}
        self._files = {name: LineFile(path, dict(state)) for name, path in self._paths.items()}

    def add(self, name: str, item: Mapping[str, Any]) -> None:
        self._files[name].write(json.dumps(item, ensure_ascii=False).encode())

    def flush(self) -> dict[str, int]:
        return {name: length for file in self._files.values() for name, length in file.flush().items()}

    def close(self) -> None:
        """The lists can be written out now."""
        self.flush()
        for file in self._files.values():
            file.close()

    def write(self, path: Path, parts: Mapping[str, Any]) -> None:
        """One JSON object: a part is a value, or the name of a list (`@images`)."""
        with path.open("w", encoding="utf-8") as file:
            file.write("{")
            for place, (key, part) in enumerate(parts.items()):
                file.write(f"{', ' if place else ''}{json.dumps(key)}: ")
                if isinstance(part, str) and part.startswith("@"):
                    self._copy(part[1:], file)
                else:
                    file.write(json.dumps(part, ensure_ascii=False))
            file.write("}\n")

    def _copy(self, name: str, file: TextIO) -> None:
        file.write("[")
        for place, text in enumerate(self._texts(name)):
            file.write(f"{',' if place else ''}\n{text}")
        file.write("]")

    def _texts(self, name: str) -> Iterator[str]:
        return (b"\t".join(map(bytes, line.cells)).decode() for line in lines(self._paths[name]))

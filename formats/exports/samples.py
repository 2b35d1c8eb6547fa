"""Numbered files as MosaicML's streaming and litdata have them: how many samples, where each begins, the samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

NUMBER = 4  # bytes of a uint32
MOST = 1 << 31  # bytes. Places are uint32, and the sample that fills a file may be as large again


@dataclass(frozen=True)
class Written:
    """One file."""

    name: str
    samples: int
    size: int  # bytes
    digest: str


class SampleFiles:
    """FOLDER/NAME of such files. One ends with the sample that fills it, or with its shard.

    form: of the names, such as shard.{:05d}.mds. head: bytes between the places and the samples.
    """

    def __init__(self, folder: Path, form: str, head: bytes, most: int, state: Mapping[str, Any]) -> None:
        self._folder, self._form, self._head, self._most = folder, form, head, min(most, MOST)
        self.files = [Written(**one) for one in state.get("files", ())]
        self._samples: list[bytes] = []
        self._size = 0

    def add(self, sample: bytes) -> None:
        self._samples.append(sample)
        self._size += len(sample)
        if self._size >= self._most:
            self._end()

    def flush(self) -> dict[str, Any]:
        """The state from which others go on: what was begun ends here."""
        self._end()
        return {"files": [asdict(one) for one in self.files]}

    def _end(self) -> None:
        if not self._samples:
            return
        name = self._form.format(len(self.files))
        start = NUMBER * (len(self._samples) + 2) + len(self._head)
        places = np.fromiter(accumulate(map(len, self._samples), initial=start), "<u4", len(self._samples) + 1)
        content = b"".join([np.uint32(len(self._samples)).tobytes(), places.tobytes(), self._head, *self._samples])
        temporary = self._folder / f".{name}.tmp"
        temporary.write_bytes(content)
        temporary.replace(self._folder / name)
        self.files.append(Written(name, len(self._samples), len(content), xxhash.xxh3_64_hexdigest(content)))
        self._samples, self._size = [], 0


def sized(values: list[bytes], which: list[bool]) -> bytes:
    """A sample: the sizes of those values that have none of their own, then all values."""
    sizes = [len(value) for value, unsized in zip(values, which, strict=True) if unsized]
    return b"".join([np.array(sizes, "<u4").tobytes(), *values])

"""The captions of a corpus on their way into the parts of an index: in files where they are more than one part.

A part is a range of image ids, so that its captions are read together: they lie by language and by the first byte of
their image's id. Ids are hashes, so that all ranges have about as many.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa

from stages.negatives.captions import Array, id_bytes, languages, of_language, one_chunk

RANGES = 256
HELD = 1 << 18  # captions that wait to be written

Lang = str | None


class Spill:
    """Captions as captions.captions_of gives them; in memory until there are more than `most`."""

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most = folder, most
        self._waiting: list[pa.Table] = []
        self._files: dict[int, pa.RecordBatchFileWriter] = {}
        self._batches: dict[tuple[Lang, int], list[int]] = {}  # of a language and range, in the range's file
        self._written: Counter[int] = Counter()  # batches of each range
        self._counts: dict[Lang, Array] = {}  # captions of each range

    def add(self, captions: pa.Table) -> None:
        self._waiting.append(captions)
        ranges = _ranges(captions)
        for lang in languages(captions):
            own = ranges[of_language(captions, lang)]
            self._counts[lang] = self._counts.get(lang, 0) + np.bincount(own, minlength=RANGES)
        waiting = sum(map(len, self._waiting))
        if waiting > (min(HELD, self._most) if self._written else self._most):
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        captions, self._waiting = pa.concat_tables(self._waiting), []
        for lang in languages(captions):
            own = captions.take(pa.array(of_language(captions, lang)))
            ranges = _ranges(own)
            order = np.argsort(ranges, kind="stable")
            ends = np.cumsum(np.bincount(ranges, minlength=RANGES))
            for number in np.unique(ranges).tolist():
                rows = order[ends[number - 1] if number else 0 : ends[number]]
                self._put(lang, number, own.take(pa.array(rows)))

    def _put(self, lang: Lang, number: int, captions: pa.Table) -> None:
        if number not in self._files:
            self._files[number] = pa.ipc.new_file(str(self._folder / str(number)), captions.schema)
        for batch in captions.combine_chunks().to_batches():
            self._files[number].write_batch(batch)
            self._batches.setdefault((lang, number), []).append(self._written[number])
            self._written[number] += 1

    def end(self) -> None:
        """All are there."""
        if self._written:
            self._flush()
        for file in self._files.values():
            file.close()

    def languages(self) -> list[Lang]:
        """In alphabetical order, null last."""
        return sorted(lang for lang in self._counts if lang is not None) + ([None] if None in self._counts else [])

    def parts(self, lang: Lang) -> list[range]:
        """Ranges that together have at most about `most` captions of a language."""
        if not self._written:
            return [range(RANGES)]
        found, start, here = [], 0, 0
        for number, count in enumerate(self._counts[lang].tolist()):
            if here and count and here + count > self._most:
                found.append(range(start, number))
                start, here = number, 0
            here += count
        return [*found, range(start, RANGES)]

    def read(self, lang: Lang, part: Sequence[int]) -> pa.Table:
        """The captions of a language in these ranges."""
        if not self._written:
            captions = pa.concat_tables(self._waiting)
            return captions.take(pa.array(of_language(captions, lang)))
        batches = []
        for number in part:
            if (lang, number) in self._batches:
                file = pa.ipc.open_file(pa.memory_map(str(self._folder / str(number))))
                batches += [file.get_batch(batch) for batch in self._batches[lang, number]]
        return pa.Table.from_batches(batches)


@contextmanager
def spilled(captions: Iterable[pa.Table], folder: Path, most: int) -> Iterator[Spill]:
    """All of these captions; what lies in files does so below the folder, while the block lasts."""
    with tempfile.TemporaryDirectory(dir=folder) as room:
        found = Spill(Path(room), most)
        for table in captions:
            found.add(table)
        found.end()
        yield found


def _ranges(captions: pa.Table) -> Array:
    """The first byte of each image id."""
    first: Array = id_bytes(one_chunk(captions["image_id"]))[:, 0].astype(np.int64)
    return first

"""The captions of a corpus on their way into the parts of an index: gathered by shard, read again by range of ids.

A part is a range of image ids, so that its captions are read together. Ids are hashes, so that ranges of one length
have about as many.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pyarrow as pa

from stages.gathered import Listed, opened
from stages.negatives.captions import captions_of, in_order, languages, of_language, with_trained
from stages.negatives.near import with_looks
from stages.negatives.rule import Config

LANGUAGES = b"languages"  # in a file's metadata: each language and how many captions it has, in their order there
IDS = 1 << 16  # beginnings of ids that are told apart

Lang = str | None


def columns_of(config: Config) -> tuple[str, ...]:
    """What is read of `curate`."""
    split = config.split if config.train_only and config.split.holds_out else None
    return tuple(dict.fromkeys(("image_id", "captions", *(split.columns if split else ()))))


def sorted_captions(table: pa.Table, argument: Config) -> pa.Table:
    """The captions of a shard (captions.captions_of) by language and image id. LANGUAGES in its metadata."""
    if argument.train_only and argument.split.holds_out:
        table = with_trained(table, argument.split)
    captions = captions_of(table)
    langs = languages(captions)
    own = [in_order(captions.take(pa.array(of_language(captions, lang)))) for lang in langs]
    counts = json.dumps([[lang, len(part)] for lang, part in zip(langs, own, strict=True)])
    return pa.concat_tables([captions.schema.empty_table(), *own]).replace_schema_metadata({LANGUAGES: counts})


def counts_of(captions: pa.Table) -> dict[Lang, int]:
    """How many there are of each language, in the order of a file of `sorted_captions`."""
    return dict(json.loads((captions.schema.metadata or {})[LANGUAGES]))


def by_language(files: Mapping[str, Path]) -> dict[Lang, int]:
    """How many captions of each language all these files have; in alphabetical order, null last."""
    found = Counter[Lang]()
    for path in files.values():
        found.update(counts_of(opened(path)))
    return dict(sorted(found.items(), key=lambda each: (each[0] is None, each[0] or "")))


def ranges(captions: int, most: int) -> list[range]:
    """Ranges of beginnings of ids, for parts of about `most` captions."""
    parts = min(max(-(-captions // most), 1), IDS)
    edges = [IDS * number // parts for number in range(parts + 1)]
    return [range(low, high) for low, high in pairwise(edges)]


@dataclass(frozen=True)
class Part:
    """The captions of a language whose ids begin so."""

    gathered: Listed  # files of `sorted_captions`
    looks: Path | None  # an Arrow file of near.LOOKS, if images that look alike count as one
    lang: Lang
    ids: range

    def read(self) -> pa.Table:
        """In no order."""
        found = [*_slices(self.gathered.files(), self.lang, self.ids)]
        captions = pa.concat_tables(found).replace_schema_metadata(None)
        return captions if self.looks is None else with_looks(captions, opened(self.looks))


def _slices(files: Sequence[Path], lang: Lang, ids: range) -> Iterator[pa.Table]:
    for number, path in enumerate(files):
        captions, start = opened(path), 0
        for each, count in counts_of(captions).items():
            if each == lang:
                column = captions["image_id"]
                low, high = (_place(column, start, start + count, edge) for edge in (ids.start, ids.stop))
                yield captions.slice(low, high - low)
                break
            start += count
        else:
            if number == 0:
                yield captions.slice(0, 0)


def _place(ids: pa.ChunkedArray, start: int, stop: int, edge: int) -> int:
    """The first of the rows from `start` to below `stop` whose id does not begin below `edge`."""
    if edge == IDS:
        return stop
    return bisect_left(range(stop), edge, start, key=lambda row: int.from_bytes(ids[row].as_py()[:2], "big"))


def write_table(table: pa.Table, path: Path) -> Path:
    """As `opened` reads it."""
    with pa.ipc.new_stream(str(path), table.schema) as stream:
        stream.write_table(table.combine_chunks())
    return path

"""A corpus that is indexed in parts, from files, has the hard negatives of one that is indexed at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest

from pairloom.table import metadata
from stages import negatives
from stages.negatives import growth
from stages.negatives.captions import captions_of
from stages.negatives.spilling import spilled
from tests.stages.negatives.corpus import shard


class Made:
    """Shards of curate, in memory, with their names in their metadata."""

    def __init__(self, number: int) -> None:
        tables = {f"{each:05d}": shard(each) for each in range(number)}
        self.shards = {name: table.replace_schema_metadata({"shard": name}) for name, table in tables.items()}

    def tables(
        self, stage: str, columns: Sequence[str], shards: Collection[str] | None = None
    ) -> Iterator[tuple[str, pa.Table]]:
        assert stage == "curate"
        yield from ((name, table.select(list(columns))) for name, table in self.shards.items())

    def hashes(self, stage: str) -> dict[str, str]:
        return dict.fromkeys(self.shards, "")

    def sizes(self, stage: str) -> dict[str, int]:
        return dict.fromkeys(self.shards, 0)


@pytest.mark.parametrize("scorer", ["tfidf", "bm25"])
def test_the_negatives_of_parts_are_those_of_the_whole(
    scorer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, config = Made(4), negatives.Config(scorer=scorer, top_k=5, floor=0.0)  # type: ignore[arg-type]
    found = {}
    for most in (1 << 22, 70, 9):
        folder = tmp_path / str(most)
        folder.mkdir()
        captions = list(negatives._captions(corpus, config))
        growth.write(captions, corpus.hashes("curate"), config, folder, most)
        tools = negatives.setup(config, folder)
        parts = [len(index.parts) for index in tools.indexes.values()]
        assert (max(parts) > 1) == (most < 1000)
        assert sorted(path.name for path in folder.iterdir() if path.name.startswith("tmp")) == []
        found[most] = [negatives.process(table, tools).to_pylist() for table in corpus.shards.values()]
        assert all(metadata(table)["shard"] for table in corpus.shards.values())
    assert found[70] == found[1 << 22]
    assert found[9] == found[1 << 22]


@pytest.mark.parametrize("most", [10_000, 60, 1])
def test_every_caption_is_in_one_part_of_its_language(most: int, tmp_path: Path) -> None:
    tables = [captions_of(shard(number)) for number in range(3)]
    whole = pa.concat_tables(tables)
    with spilled(tables, tmp_path, most) as found:
        assert found.languages() == ["de", "en"]
        for lang in found.languages():
            parts = [found.read(lang, part) for part in found.parts(lang)]
            rows = pa.concat_tables(part for part in parts if len(part)).to_pylist()
            wanted = [row for row in whole.to_pylist() if row["lang"] == lang]
            key = lambda row: (row["image_id"], row["caption_index"])  # noqa: E731
            assert sorted(rows, key=key) == sorted(wanted, key=key)
            ends = [(min(ids), max(ids)) for part in parts if (ids := part["image_id"].to_pylist())]
            assert all(one[1] < other[0] for one, other in pairwise(ends))
            if most == 60:
                assert max(map(len, parts)) <= 60
    assert list(tmp_path.iterdir()) == []

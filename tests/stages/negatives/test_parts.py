"""A corpus that is indexed in parts has the hard negatives of one that is indexed at once."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest

from stages import negatives
from stages.gathered import Listed
from stages.negatives import building
from stages.negatives.captions import captions_of
from stages.negatives.parts import IDS, Part, by_language, columns_of, ranges, sorted_captions
from tests.stages.memory import InMemory
from tests.stages.negatives.corpus import shard


def corpus_of(shards: int) -> InMemory:
    """Shards of curate with their names in their metadata."""
    tables = [shard(number).replace_schema_metadata({"shard": f"{number:05d}"}) for number in range(shards)]
    return InMemory("curate", tables)


@pytest.mark.parametrize("scorer", ["tfidf", "bm25"])
def test_the_negatives_of_parts_are_those_of_the_whole(scorer: str, tmp_path: Path) -> None:
    corpus, config = corpus_of(4), negatives.Config(scorer=scorer, top_k=5, floor=0.0)  # type: ignore[arg-type]
    found = {}
    for most in (1 << 22, 70, 9):
        folder = tmp_path / str(most)
        folder.mkdir()
        building.write(corpus, config, folder, most)
        tools = negatives.setup(config, folder)
        parts = [len(index.parts) for index in tools.indexes.values()]
        assert (max(parts) > 1) == (most < 1000)
        assert sorted(path.name for path in folder.iterdir() if path.name.startswith("tmp")) == []
        found[most] = [negatives.process(table, tools).to_pylist() for table in corpus.shards.values()]
    assert found[70] == found[1 << 22]
    assert found[9] == found[1 << 22]


@pytest.mark.parametrize("most", [10_000, 60, 1])
def test_every_caption_is_in_one_part_of_its_language(most: int, tmp_path: Path) -> None:
    corpus, config = corpus_of(3), negatives.Config()
    whole = pa.concat_tables(captions_of(table) for table in corpus.shards.values())
    files = corpus.gathered({"curate": columns_of(config)}, sorted_captions, config)
    counts = by_language(files)
    assert counts == Counter(whole["lang"].to_pylist())
    assert list(counts) == ["de", "en"]
    gathered = Listed.write(files.values(), tmp_path / "files")
    for lang, captions in counts.items():
        parts = [Part(gathered, None, lang, ids).read() for ids in ranges(captions, most)]
        assert (len(parts) == 1) == (most >= captions)
        rows = pa.concat_tables(part for part in parts if len(part)).to_pylist()
        wanted = [row for row in whole.to_pylist() if row["lang"] == lang]
        key = lambda row: (row["image_id"], row["caption_index"])  # noqa: E731
        assert sorted(rows, key=key) == sorted(wanted, key=key)
        ends = [(min(ids), max(ids)) for part in parts if (ids := part["image_id"].to_pylist())]
        assert all(one[1] < other[0] for one, other in pairwise(ends))


@pytest.mark.parametrize("captions", [0, 1, 7, 100, 10**9])
def test_ranges_of_ids_leave_none_out(captions: int) -> None:
    found = ranges(captions, 7)
    assert found[0].start == 0
    assert found[-1].stop == IDS
    assert all(one.stop == other.start and len(one) for one, other in pairwise(found))

"""Info adds up what the manifests say."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from inspection.info import info, info_text, size
from inspection.kinds import kinds_notes, last_kinds
from inspection.lint import lint_text
from pairloom.errors import StoreError
from pairloom.store.folder import JOURNAL, MANIFEST
from schemas.pairs import PAIRS
from tests.inspection.synthetic import FLOW, edit, rewrite


def test_a_dataset_is_summed_up_stage_by_stage(good: Path) -> None:
    facts = info(good, FLOW)
    json.dumps(facts)
    rows = {table["stage"]: (table["rows_in"], table["rows"], table["left_out"]) for table in facts["tables"]}
    assert rows == {
        "sample": (0, 22, 0),
        "download": (22, 20, 2),
        "curate": (20, 18, 2),
        "regions": (18, 17, 1),
        "tags": (17, 17, 0),
        "negatives": (18, 18, 0),
        **dict.fromkeys(("patches", "qa", "similar"), (18, 18, 0)),
        "neighbours": (17, 17, 0),
        "shards": (17, 17, 0),
        "score": (20, 20, 0),
    }
    text = info_text(facts)
    assert [line.split()[0] for line in text.splitlines()[3:15]] == list(rows)  # in the order of the data
    assert "download: not-found 2" in text
    for table in facts["tables"]:
        assert table["bytes"] == sum(file.stat().st_size for file in Path(table["path"]).glob("*.parquet"))


def test_one_table_is_shown_with_its_settings(good: Path) -> None:
    text = info_text(info(good / "curate", FLOW))
    assert f"table pairs v{PAIRS.version}" in text
    assert "18 of 20, 2 left out" in text
    assert "top_k: 3" in text
    kinds = Counter(
        said["kind"] or "unknown"
        for file in (good / "curate").glob("*.parquet")
        for said in itertools.chain(*pq.read_table(file)["captions"].to_pylist())
    )
    assert info(good / "curate", FLOW)["tables"][0]["kinds"] == kinds
    assert f"captions     unknown {kinds['unknown']}" in text
    assert info(good / "quarantine" / "curate", FLOW)["tables"][0]["table"] == "quarantine"


def test_kinds_of_captions_are_counted_where_they_can_be_read(data: Path) -> None:
    rewrite(data / "shards", "train-00000", edit("captions", 0, lambda told: [one | {"kind": "alt"} for one in told]))
    first = pq.read_table(data / "shards" / "train-00000.parquet")
    facts = last_kinds(data, FLOW)
    assert facts["alt"] == len(first["captions"][0])
    assert "alt" in lint_text([], kinds_notes(facts))
    assert kinds_notes({"unknown": 3}) == []
    (data / "shards" / "train-00000.parquet").write_bytes(b"PAR1")
    assert last_kinds(data, FLOW)["of unreadable shards"] == first.num_rows


def test_an_interrupted_table_is_marked(data: Path) -> None:
    manifest = json.loads((data / "tags" / MANIFEST).read_text())
    del manifest["shards"]
    (data / "tags" / JOURNAL).write_text(json.dumps(manifest) + "\n")
    assert "INTERRUPTED" in info_text(info(data / "tags", FLOW))
    assert "interrupted" in info_text(info(data, FLOW))
    assert info(data / "tags", FLOW)["tables"][0]["complete"] is False


def test_no_table_or_a_broken_manifest_is_an_error(data: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "nothing"):
        with pytest.raises(StoreError, match="no table here"):
            info(path, FLOW)
    (data / "tags" / MANIFEST).write_text("{")
    with pytest.raises(StoreError, match="not JSON"):
        info(data, FLOW)


def test_sizes_are_short() -> None:
    assert [size(n) for n in (0, 999, 1500, 2_500_000, 10**9, 3 * 10**12)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "2.5 MB",
        "1 GB",
        "3 TB",
    ]

"""docs/reference/shards.md is enough to read shards: a reader of its own agrees with what was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests import bare_reader
from tests.pairloom.loader.loading import WORDS, table_of

VERSIONS = Path(__file__).parent / "pairloom/loader/versions"


@pytest.mark.parametrize("version", sorted(path.name for path in VERSIONS.iterdir()))
def test_a_reader_without_our_code_reads_what_was_written(version: str) -> None:
    found = list(bare_reader.rows(VERSIONS / version, "train"))
    written = table_of(range(6), "train").to_pylist()
    assert [row["image_id"] for row in found] == [row["image_id"] for row in written]
    for row, wanted in zip(found, written, strict=True):
        assert row["captions"] == [caption["text"] for caption in wanted["captions"]]
        assert row["classes"] == [WORDS[number] for number in np.frombuffer(wanted["class_ids"], "<u2")]
        assert row["features"].tobytes() == wanted["features"]
        assert row["boxes"].tobytes() == wanted["boxes"]


def test_that_reader_is_short_and_imports_only_pyarrow_and_numpy() -> None:
    text = Path(bare_reader.__file__).read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60
    modules = {line.split()[1].partition(".")[0] for line in text.splitlines() if line.startswith(("import", "from"))}
    assert modules == {"json", "collections", "pathlib", "typing", "numpy", "pyarrow"}

"""A shard's fingerprint is the hash of all that its bytes depend on, written as one JSON text, as it always was."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pairloom.store.folder import Header
from pipeline.fingerprints import due, shard_fingerprint, shard_fingerprints

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


TEXTS = st.lists(st.text())
HASHES = st.lists(st.text("0123456789abcdef"), min_size=1)


@given(
    config=st.dictionaries(st.text(), JSON),
    resources=st.dictionaries(st.text(), st.text()),
    sources=st.lists(JSON) | st.lists(TEXTS | TEXTS.map(tuple)) | st.lists(HASHES),
)
def test_it_is_the_sha256_of_one_json_text(config: Any, resources: Any, sources: list[Any]) -> None:
    header = Header("table", 2, "stage", 3, config, resources, "0.1.0")
    named = {str(number): one for number, one in enumerate(sources)}
    found = shard_fingerprints(header, named)
    for name, own in named.items():
        content = [("table", 2, "stage", 3), config, resources, own]
        text = json.dumps(content, sort_keys=True, ensure_ascii=False)
        assert found[name] == hashlib.sha256(text.encode("utf-8", "strict")).hexdigest()
        assert found[name] == shard_fingerprint(header, own)


def test_a_shard_is_due_that_is_missing_other_or_cut_short(tmp_path: Path) -> None:
    made = dict.fromkeys(("a", "b", "c", "d"), ("as wanted", 3))
    for name, content in (("a", b"123"), ("b", b"12"), ("d", b"123"), ("e", b"123")):
        (tmp_path / f"{name}.parquet").write_bytes(content)
    wanted = {**dict.fromkeys("abc", "as wanted"), "d": "otherwise", "e": "as wanted"}
    assert due(made, wanted, tmp_path) == ["b", "c", "d", "e"]

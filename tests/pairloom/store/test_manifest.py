"""A manifest says the same whether it lists its shards itself or in a file beside it, and a damaged one is refused."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairloom.errors import StoreError
from pairloom.store import manifest
from pairloom.store.folder import ASIDE, MANIFEST, Entry, Header, open_folder
from pairloom.store.verify import verify
from pairloom.store.writing import Writer, write_shard
from tests.pipeline.helpers import table_of

HEADER = Header("urls", 1, "sample", 1, {"rows": 3}, {"file": "0" * 64}, "0.1.0")
COUNTS = st.integers(0, 2**62)
ENTRIES = st.builds(
    Entry, name=st.integers(0, 200_000).map("{:05d}".format), rows=COUNTS, bytes=COUNTS, sha256=st.text(),
    fingerprint=st.text(), rows_in=COUNTS, rejected=st.dictionaries(st.text(max_size=3), COUNTS, max_size=3),
)  # fmt: skip


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "INLINE", 2)


def write(folder: Path, header: Header, entries: list[Entry]) -> None:
    text, files = manifest.manifest_files(header, entries)
    (folder / ASIDE).mkdir(exist_ok=True)
    (folder / MANIFEST).write_text(text)
    for name, content in files.items():
        (folder / ASIDE / name).write_bytes(content)


@settings(deadline=None, max_examples=60)
@given(entries=st.lists(ENTRIES, max_size=5), inline=st.integers(0, 5))
def test_both_forms_say_the_same(entries: list[Entry], inline: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    (one / ASIDE).mkdir()
    (one / MANIFEST).write_text(manifest.manifest_json(HEADER, entries))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "INLINE", inline)
        write(two, HEADER, entries)
    first, second = open_folder(one), open_folder(two)
    assert (first.header, first.shards, first.rows) == (second.header, second.shards, second.rows)
    assert first.shards.rejected() == second.shards.rejected()
    assert [asdict(entry) for entry in first.shards] == [asdict(entry) for entry in second.shards]
    assert len({entry.name for entry in entries}) == len(second.shards)


@pytest.mark.usefixtures("beside")
def test_a_table_that_grows_keeps_one_listing_and_its_files(tmp_path: Path) -> None:
    for count in (2, 3, 5, 5):
        writer = Writer.open(tmp_path, HEADER)
        writer.begin(list(writer.done))
        for number in range(len(writer.done), count):
            writer.record(write_shard(tmp_path, f"{number:05d}", table_of(["a"])))
        writer.finish()
        assert open_folder(tmp_path).rows == count
        assert len(list((tmp_path / ASIDE).iterdir())) == (1 if count == 2 else 2)
        assert len(list(tmp_path.glob("*.parquet"))) == count
        assert verify(tmp_path) == []
    (listing,) = (tmp_path / ASIDE).glob("*.parquet")
    assert pq.read_table(listing)["name"].to_pylist() == [f"{number:05d}" for number in range(5)]


@pytest.mark.usefixtures("beside")
def test_a_finished_table_is_not_written_again_and_a_lost_listing_is(tmp_path: Path) -> None:
    writer = Writer.open(tmp_path, HEADER)
    writer.begin([])
    for number in range(3):
        writer.record(write_shard(tmp_path, f"{number:05d}", table_of(["a"])))
    writer.finish()
    before = (tmp_path / MANIFEST).stat().st_mtime_ns
    Writer.open(tmp_path, HEADER).finish()
    assert (tmp_path / MANIFEST).stat().st_mtime_ns == before
    assert open_folder(tmp_path).rows == 3
    changed = Header("urls", 1, "sample", 2, {})
    Writer.open(tmp_path, changed).finish()
    assert open_folder(tmp_path).header == changed
    assert open_folder(tmp_path).rows == 3


@pytest.mark.usefixtures("beside")
@pytest.mark.parametrize("damage", ["missing", "flipped", "elsewhere"])
def test_a_listing_that_is_not_the_manifests_is_refused(damage: str, tmp_path: Path) -> None:
    write(tmp_path, HEADER, [Entry(f"{number:05d}", 1, 1, "0" * 64) for number in range(5)])
    (listing,) = (tmp_path / ASIDE).glob("*.parquet")
    if damage == "missing":
        listing.unlink()
    elif damage == "flipped":
        content = bytearray(listing.read_bytes())
        content[len(content) // 2] ^= 1
        listing.write_bytes(content)
    else:
        told = json.loads((tmp_path / MANIFEST).read_text())
        told["listed"]["file"] = "../manifest-0.parquet"
        (tmp_path / MANIFEST).write_text(json.dumps(told))
    with pytest.raises(StoreError, match="manifest"):
        open_folder(tmp_path)

"""Shards stand in the order of their numbers, however many digits these have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pairloom.store.folder import JOURNAL, Entry, Header, manifest_json, open_folder
from pairloom.store.names import by_number, shard_name

HEADER = Header("urls", 1, "sample", 1, {})
NUMBERS = st.integers(0, 3) | st.integers(9, 11) | st.integers(99_990, 100_010) | st.integers(0, 10**8)


@given(numbers=st.lists(NUMBERS), split=st.sampled_from(["", "train", "val-2"]))
def test_names_sort_as_their_numbers(numbers: list[int], split: str) -> None:
    names = [shard_name(number, split) for number in numbers]
    assert sorted(names, key=by_number) == [shard_name(number, split) for number in sorted(numbers)]


@given(names=st.lists(st.text(max_size=4) | st.from_regex(r"[ab]?0{0,2}[0-9]{0,3}", fullmatch=True)))
def test_any_names_have_one_order(names: list[str]) -> None:
    assert sorted(names, key=by_number) == sorted(sorted(names, reverse=True), key=by_number)


def entries(numbers: Sequence[int]) -> list[Entry]:
    return [Entry(shard_name(number), rows=number % 7, bytes=1, sha256="0" * 64) for number in numbers]


def test_the_shard_after_99999_is_the_last_of_a_manifest_and_of_a_journal(tmp_path: Path) -> None:
    wanted = [entry.name for entry in entries([99_998, 99_999, 100_000, 100_001])]
    manifest = json.loads(manifest_json(HEADER, entries([100_001, 99_999, 100_000, 99_998])))
    assert [shard["name"] for shard in manifest["shards"]] == wanted
    (tmp_path / JOURNAL).parent.mkdir()
    shuffled = [json.dumps(vars(HEADER)), *(json.dumps(vars(entry)) for entry in entries([100_000, 99_999]))]
    (tmp_path / JOURNAL).write_text("\n".join(shuffled) + "\n")
    assert [entry.name for entry in open_folder(tmp_path).shards] == wanted[1:3]

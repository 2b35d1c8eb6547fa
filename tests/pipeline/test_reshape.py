"""Folders of shards checked and made anew: damage is named, rows are kept as asked, whole shards are not rewritten."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pairloom.errors import InputError, StoreError
from pairloom.store.folder import COMPANIONS, open_folder
from pairloom.store.verify import verify
from pipeline import cli, reshape
from pipeline.card import write_card
from pipeline.progress import Progress
from tests.pairloom.loader.loading import write_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "data" / "shards", (9, 8, 6))


def ids(folder: Path) -> list[int]:
    return [
        int.from_bytes(i, "big") for _, t in open_folder(folder).tables(["image_id"]) for i in t["image_id"].to_pylist()
    ]


def test_verify_finds_each_of_200_flipped_bits_and_says_how_to_rebuild(folder: Path) -> None:
    shard = folder / "train-00001.parquet"
    whole, opened = shard.read_bytes(), open_folder(folder)
    with Progress("verify", 1) as progress:
        assert verify(opened, progress.advance) == []
        for bit in np.random.default_rng(0).integers(0, 8 * len(whole), 200).tolist():
            content = bytearray(whole)
            content[bit // 8] ^= 1 << (bit % 8)
            shard.write_bytes(content)
            (problem,) = verify(opened, progress.advance, workers=2)
            assert problem.file == str(shard)
            assert "pairloom stage shards" in problem.fix


def test_the_command_exits_1_when_a_shard_is_short_or_missing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", str(folder.parent), "--json", "--quiet"]) == 0
    capsys.readouterr()
    (folder / "train-00000.parquet").unlink()
    (folder / "train-00002.parquet").write_bytes(b"PAR1")
    assert cli.main(["verify", str(folder), "--json", "--quiet"]) == 1
    whats = [problem["what"] for problem in json.loads(capsys.readouterr().out)["problems"]]
    assert whats[0] == "the shard is missing"
    assert whats[1].startswith("it has 4 bytes, the manifest says")


def test_merge_and_split_link_whole_shards_and_lose_nothing(folder: Path, tmp_path: Path) -> None:
    parts = reshape.split(folder, 2, tmp_path / "parts")
    assert [part.linked for part in parts] == [2, 1]
    made = reshape.merge([part.path for part in parts], tmp_path / "whole")
    assert (made.rows, made.shards, made.linked) == (23, 3, 3)
    assert sorted(ids(tmp_path / "whole")) == list(range(23))
    inodes = {path.stat().st_ino for path in (tmp_path / "whole").glob("*.parquet")}
    assert inodes == {path.stat().st_ino for path in folder.glob("*.parquet")}
    config = open_folder(tmp_path / "whole").header.config
    assert len(config["made_of"]["merge"]) == 2  # where it came from is kept


def test_filter_keeps_the_rows_of_a_condition_and_links_shards_that_stay_whole(folder: Path, tmp_path: Path) -> None:
    twelve = "".join(f"\\x{byte:02X}" for byte in (12).to_bytes(16, "big"))
    made = reshape.filter_rows(folder, f"image_id < '{twelve}'::BLOB", tmp_path / "a")
    assert ids(tmp_path / "a") == list(range(12))
    assert (made.shards, made.linked) == (2, 1)
    reshape.filter_rows(folder, "num_regions >= 4", tmp_path / "b")
    assert ids(tmp_path / "b") == [image for image in range(23) if 1 + image % 5 >= 4]
    with pytest.raises(InputError, match="cannot be used"):
        reshape.filter_rows(folder, "no_such_column = 1", tmp_path / "c")


def test_sample_draws_by_image_so_that_folders_agree(folder: Path, tmp_path: Path) -> None:
    reshape.sample(folder, 0.5, 3, tmp_path / "a")
    reshape.sample(reshape.split(folder, 3, tmp_path / "parts")[1].path, 0.5, 3, tmp_path / "b")
    assert 4 <= len(ids(tmp_path / "a")) <= 19
    assert set(ids(tmp_path / "b")) == set(ids(tmp_path / "a")) & set(range(9, 17))


def test_folders_of_other_detectors_and_used_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    other = write_folder(tmp_path / "other", (3,))
    shard = other / "train-00000.parquet"
    table = pq.read_table(shard)
    pq.write_table(table.replace_schema_metadata(table.schema.metadata | {b"detector": b"another"}), shard)
    with pytest.raises(StoreError, match="differ in detector: test and another"):
        reshape.merge([folder, other], tmp_path / "out")
    with pytest.raises(StoreError, match="not empty"):
        reshape.sample(folder, 0.5, 0, folder)


def test_the_card_counts_what_is_there(folder: Path) -> None:
    write_card(open_folder(folder))
    facts = json.loads((folder / COMPANIONS[0]).read_text(encoding="utf-8"))
    captions = sum(1 + image % 3 for image in range(23))
    assert facts["splits"] == {"train": {"shards": 3, "images": 23, "captions": captions}}
    assert facts["licences"] == {"CC0-1.0": 23}
    assert facts["languages"] == {"en": captions}
    assert facts["regions"]["detector"] == "test"
    assert [shard["sha256"] for shard in facts["shards"]] == [entry.sha256 for entry in open_folder(folder).shards]
    readme = (folder / COMPANIONS[1]).read_text(encoding="utf-8")
    code = readme.partition("```python\n")[2].partition("```")[0].replace("train-00000", f"{folder}/train-00000")
    names: dict[str, object] = {}
    exec(code, names)  # the README's own lines
    assert getattr(names["features"], "shape", None) == (1, 8)

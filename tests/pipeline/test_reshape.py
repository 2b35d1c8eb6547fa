"""Folders of shards checked and made anew: damage is named, rows are kept as asked, whole shards are not rewritten."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from inspection.lint import lint
from pairloom.errors import InputError, StoreError
from pairloom.store import index
from pairloom.store.folder import ASIDE, COMPANIONS, MANIFEST, open_folder
from pairloom.store.verify import verify
from pairloom.store.writing import Writer
from pipeline import cli, reshape
from pipeline.card import write_card
from pipeline.progress import Progress
from tests.inspection.synthetic import FLOW, make_dataset, rewrite
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


WAYS: dict[str, Callable[[Path, Path], object]] = {
    "merge": lambda folder, out: reshape.merge([folder], out),
    "split": lambda folder, out: reshape.split(folder, 1, out),
    "filter": lambda folder, out: reshape.filter_rows(folder, "num_regions >= 4", out),
    "sample": lambda folder, out: reshape.sample(folder, 0.5, 3, out),
}


def made(way: str, folder: Path, out: Path) -> Path:
    WAYS[way](folder, out)
    return out / "0" if way == "split" else out


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards that lint finds nothing wrong with, and that say what made them."""
    return make_dataset(tmp_path_factory.mktemp("good") / "data") / "shards"


@pytest.mark.parametrize("name", ["shards", "other"])
def test_lint_finds_nothing_wrong_with_a_folder_made_of_others(shards: Path, tmp_path: Path, name: str) -> None:
    for way in WAYS:
        folder = made(way, shards, tmp_path / way / name)
        assert lint(folder, FLOW) == []
        assert lint(made(way, folder, tmp_path / "again" / way / name), FLOW) == []
    parts = [part.path for part in reshape.split(shards, 2, tmp_path / "parts")]
    parts[1] = made("sample", parts[1], tmp_path / "half")
    reshape.merge(parts, tmp_path / "merged" / name)
    assert lint(tmp_path / "merged" / name, FLOW) == []
    assert lint(tmp_path / "merged", FLOW) == []


def test_what_is_wrong_in_such_a_folder_is_found_under_any_name_and_no_stage_is_named(
    shards: Path, tmp_path: Path
) -> None:
    folder = made("merge", shards, tmp_path / "shards")
    rewrite(folder, "val-00000", lambda table: pa.concat_tables([table, table.slice(0, 1)]))
    whole = Path(shutil.copytree(folder, tmp_path / "val"))
    for one in (folder, whole):
        (problem,) = lint(one, FLOW)
        assert (problem.check, problem.row) == ("duplicate", 4)
        assert "pairloom stage" not in problem.fix
    (folder / "val-00000.parquet").unlink()
    (missing,) = lint(folder, FLOW)
    assert missing.check == "missing"
    assert "pairloom stage" not in missing.fix


def test_an_image_in_train_and_val_is_found_in_any_folder(shards: Path, tmp_path: Path) -> None:
    folder = made("merge", shards, tmp_path / "any name")
    leaked = open_folder(folder).read("train-00000").slice(2, 1)

    def add(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index("split")
        return pa.concat_tables([table, leaked.set_column(place, leaked.schema.field(place), [["val"]])])

    rewrite(folder, "val-00000", add)
    (problem,) = lint(folder, FLOW)
    assert (problem.check, problem.row) == ("duplicate", 4)
    assert leaked["image_id"][0].as_py().hex() in problem.what
    assert "before in shard train-00000" in problem.what


def test_a_shard_that_none_of_the_folders_made_is_found(shards: Path, tmp_path: Path) -> None:
    folder = made("merge", shards, tmp_path / "out")
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    manifest["config"]["made_of"]["merge"][0]["config"]["ceiling"] = 0.9
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    assert {problem.check for problem in lint(folder, FLOW)} == {"provenance"}
    others: list[Any] = [None, 3, [], {"merge": 3}, {"merge": [3]}, {"of": None}]
    for broken in others:
        manifest["config"]["made_of"] = broken
        (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
        assert {problem.check for problem in lint(folder, FLOW)} == {"provenance"}


def test_equal_images_are_refused_by_name_or_kept_once(folder: Path, tmp_path: Path) -> None:
    half = reshape.sample(folder, 0.5, 3, tmp_path / "half")
    first = min(ids(tmp_path / "half"))
    with pytest.raises(StoreError, match=rf"{half.rows} rows .* {first.to_bytes(16, 'big').hex()}") as caught:
        reshape.merge([folder, tmp_path / "half"], tmp_path / "out")
    assert str(folder) in caught.value.args[1]
    assert str(tmp_path / "half") in caught.value.args[1]
    with pytest.raises(StoreError, match="23 rows are of images that came before"):
        reshape.merge([folder, folder], tmp_path / "out")
    both = reshape.merge([tmp_path / "half", folder], tmp_path / "out", keep_first=True)
    assert (both.rows, both.left_out) == (23, half.rows)
    assert sorted(ids(tmp_path / "out")) == list(range(23))
    assert ids(tmp_path / "out")[: half.rows] == ids(tmp_path / "half")
    assert open_folder(tmp_path / "out").header.config["made_of"]["left_out"] == half.rows


@pytest.mark.parametrize("way", WAYS)
def test_a_way_that_fails_leaves_nothing_so_the_same_command_runs_again(folder: Path, tmp_path: Path, way: str) -> None:
    shard, whole = folder / "train-00002.parquet", (folder / "train-00002.parquet").read_bytes()
    out = tmp_path / "new"
    out.mkdir()
    if way in ("merge", "split"):
        shard.unlink()
    else:
        shard.write_bytes(whole[:300] + bytes(300) + whole[600:])
    with pytest.raises((StoreError, OSError)):
        WAYS[way](folder, out)
    assert not list(out.rglob("*.parquet"))
    shard.unlink(missing_ok=True)
    shard.write_bytes(whole)
    WAYS[way](folder, out)
    assert list(out.rglob("*.parquet"))


def test_a_folder_that_a_killed_run_left_is_made_anew(folder: Path, tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    reshape.sample(folder, 0.9, 0, killed)
    writer = Writer.open(killed, open_folder(killed).header)
    writer.begin(list(writer.done)[:1])
    assert not open_folder(killed).complete
    reshape.sample(folder, 0.5, 3, killed)
    reshape.sample(folder, 0.5, 3, tmp_path / "fresh")
    assert ids(killed) == ids(tmp_path / "fresh")
    with pytest.raises(StoreError, match="not empty"):  # finished: it may be wanted
        reshape.sample(folder, 0.5, 3, killed)


READ_ONLY = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]


@pytest.mark.skipif(shutil.which("setpriv") is None and os.geteuid() == 0, reason="root can write everywhere")
def test_index_of_a_folder_that_cannot_be_written_is_done_or_says_what_to_do(folder: Path) -> None:
    write_card(open_folder(folder))
    content = (folder / index.name_of("train-00001")).read_bytes()

    def indexed() -> subprocess.CompletedProcess[str]:
        without_root = READ_ONLY if os.geteuid() == 0 else []
        command = [*without_root, sys.executable, "-m", "pipeline.cli", "shards", "index", str(folder)]
        for path in (folder / ASIDE, folder):
            path.chmod(0o555)
        try:
            return subprocess.run(command, capture_output=True, text=True, check=False)
        finally:
            for path in (folder / ASIDE, folder):
                path.chmod(0o755)

    ran = indexed()
    assert (ran.returncode, ran.stdout) == (0, "3 shards, 0 of them indexed now\n")
    (folder / index.name_of("train-00001")).unlink()
    ran = indexed()
    assert ran.returncode == 1
    assert "copy the folder to where it can be written" in ran.stderr
    assert cli.main(["shards", "index", str(folder)]) == 0
    assert (folder / index.name_of("train-00001")).read_bytes() == content


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

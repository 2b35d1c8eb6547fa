"""`pairloom export`: shards to every layout and back, resumed after a kill, and training on what has no picture."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from formats import features
from formats.features.lines import encoded
from formats.features.record import Record
from formats.features.tables import records_of
from pairloom.errors import RunError
from pairloom.extra import as_dict
from pairloom.store.folder import open_folder
from pipeline.features import pieces
from systems import recipes
from tests.formats.features import made
from tests.pipeline.features.lists import coco, killed, records, refused, run

LAYOUTS = [name for name in features.names() if name != "grid-npy"]
VAL = "shards.val_share=0.3"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures' features as LXMERT and UNITER have them, to training shards without a picture."""
    root = tmp_path_factory.mktemp("features")
    pictures = records(60)
    captions = coco(root / "captions.json", pictures)
    for layout in ("lxmert-tsv", "vilbert-lmdb"):
        made.write(layout, root / f"in-{layout}", pictures)
        run(
            "import", root / f"in-{layout}", "--as", layout, "--captions", captions, "--out", root / layout,
            "--shards", "--rows-per-shard", "25", "--set", VAL, "--set", "shards.shard_bytes=8000",
        )  # fmt: skip
    return root


def wanted(shards: Path) -> dict[str, Record]:
    found: dict[str, Record] = {}
    for _, table in open_folder(shards).tables():
        keys = [as_dict(extra)["key"] for extra in table["extra"].to_pylist()]
        found |= {one.key: one for one in records_of(table, keys)}
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_shards_go_out_and_come_back(layout: str, data: Path, tmp_path: Path) -> None:
    shards, out = data / "vilbert-lmdb/shards", tmp_path / "out"
    said = run("export", shards, "--as", layout, "--out", out)
    assert said["checked"] == 60
    assert set(said["folders"]) == {str(out / "train"), str(out / "val")}
    rows = wanted(shards)
    for split in ("train", "val"):
        back = made.good(layout, out / split)
        assert back
        for key, found in back.items():
            assert np.array_equal(found.features, np.asarray(rows[key].features, features.load(layout).STORED))
            own = [rows[key].width, rows[key].height] * 2 if found.width is None else [1] * 4
            limit = 5e-4 if layout in made.HALF else 1e-4
            assert np.abs(found.boxes - np.asarray(rows[key].boxes) / own).max() <= limit
    for line in (out / "export.sha256").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    assert subprocess.run(["sha256sum", "-c", "--quiet", "export.sha256"], cwd=out, check=False).returncode == 0


def test_what_was_exported_is_imported_to_the_same_features(data: Path, tmp_path: Path) -> None:
    run("export", data / "lxmert-tsv/shards", "--as", "oscar-tsv", "--out", tmp_path / "oscar")
    run("import", tmp_path / "oscar/train", "--as", "oscar-tsv", "--out", tmp_path / "data")
    before = wanted(data / "lxmert-tsv/shards")
    for _, table in open_folder(tmp_path / "data/regions").tables():
        for one in records_of(table, table["source"].to_pylist()):
            assert np.array_equal(one.features, before[one.key].features)
            assert np.array_equal(one.boxes, before[one.key].boxes)
            assert np.array_equal(one.class_ids, before[one.key].class_ids)  # type: ignore[arg-type]
            assert np.array_equal(one.class_scores, before[one.key].class_scores)  # type: ignore[arg-type]


def test_a_table_of_regions_goes_out_by_its_sources(data: Path, tmp_path: Path) -> None:
    said = run("export", data / "lxmert-tsv/regions", "--as", "lxmert-tsv", "--out", tmp_path / "out")
    assert said["folders"] == {str(tmp_path / "out"): 60}
    assert "COCO_train2014_000000000001" in made.good("lxmert-tsv", tmp_path / "out")
    names = (tmp_path / "out/objects_vocab.txt").read_text().splitlines()
    assert names[:2] == ["class 0", "class 1"]


@pytest.mark.parametrize("layout", ["lxmert-tsv", "uniter-lmdb", "volta-h5"])
def test_a_killed_export_goes_on(layout: str, data: Path, tmp_path: Path) -> None:
    shards, out = data / "vilbert-lmdb/shards", tmp_path / "out"
    killed(2, "export", shards, "--as", layout, "--out", out, "--no-check")
    said = run("export", shards, "--as", layout, "--out", out)
    assert said["checked"] == 60
    assert said["resumed"] == 2
    run("export", shards, "--as", layout, "--out", tmp_path / "whole")
    if layout != "uniter-lmdb":  # whose pages lie as the transactions came
        assert (out / "export.sha256").read_text() == (tmp_path / "whole/export.sha256").read_text()


def test_the_number_of_processes_changes_no_byte(data: Path, tmp_path: Path) -> None:
    shards, sums = data / "vilbert-lmdb/shards", set()
    for workers in (1, 2, 7):
        out = tmp_path / str(workers)
        assert run("export", shards, "--as", "oscar-tsv", "--out", out, "--workers", workers)["checked"] == 60
        sums.add((out / "export.sha256").read_text())
    assert len(sums) == 1


def test_a_process_that_dies_is_named(tmp_path: Path) -> None:
    with pieces.Processes(2) as processes, pytest.raises(RunError, match="a worker process died"):
        list(processes.map(os._exit, [1, 1]))


def test_a_folder_of_something_else_is_left_alone(data: Path, tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("mine")
    assert "not empty" in refused("export", data / "lxmert-tsv/shards", "--as", "butd-tsv", "--out", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["own.txt"]


def test_what_a_layout_needs_and_the_features_lack_is_named(data: Path, tmp_path: Path) -> None:
    made.write("uniter-lmdb", tmp_path / "in", records(4))
    run("import", tmp_path / "in", "--as", "uniter-lmdb", "--out", tmp_path / "data")
    said = refused("export", tmp_path / "data/regions", "--as", "lxmert-tsv", "--out", tmp_path / "out")
    assert "lxmert-tsv needs sizes of pictures" in said
    run("export", tmp_path / "data/regions", "--as", "uniter-npz", "--out", tmp_path / "npz")


def test_a_key_that_is_not_there_or_stands_for_two_is_named(data: Path, tmp_path: Path) -> None:
    shards = data / "lxmert-tsv/shards"
    assert "has no number" in refused("export", shards, "--as", "butd-tsv", "--key", "number", "--out", tmp_path / "a")
    assert "a second picture" in refused(
        "export", shards, "--as", "butd-tsv", "--key", "source", "--out", tmp_path / "b"
    )
    run("export", shards, "--as", "butd-tsv", "--key", "image_id", "--out", tmp_path / "c")
    assert all(len(key) == 32 for key in made.good("butd-tsv", tmp_path / "c/train"))


def test_a_damaged_export_is_noticed(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "formats.features.butd_tsv.encoded", lambda values, dtype: encoded(np.asarray(values)[::-1], dtype)
    )
    said = refused("export", data / "lxmert-tsv/shards", "--as", "butd-tsv", "--out", tmp_path / "out")
    assert "has other features" in said


@pytest.mark.parametrize("recipe", ["lxmert", "vinvl"])
def test_variants_without_questions_read_none(recipe: str) -> None:
    assert "qa" in recipes.load(recipe).columns()
    assert "qa" not in recipes.load(recipe, "tiny", variant="no-questions").columns()


def test_a_recipe_of_pixels_says_that_there_are_none(data: Path) -> None:
    said = refused("train", "--recipe", "vilt", "--shards", data / "lxmert-tsv/shards", "--steps", "1")
    assert "the shards lack the columns image" in said


def test_a_variant_that_a_recipe_lacks_is_named(data: Path) -> None:
    said = refused("train", "--recipe", "uniter", "--variant", "no-questions", "--shards", data / "lxmert-tsv/shards")
    assert "has no variant no-questions" in said

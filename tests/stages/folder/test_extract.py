"""`pairloom extract`: a folder of pictures to a regions table, and on again after a change."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from formats.names import as_path
from pairloom.store.folder import open_folder
from pipeline.cli import main
from stages.folder.files import find, list_pictures
from stages.regions.starter.evaluate import scene
from tests.formats.features.made import good


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for seed, name in enumerate(("b.png", "sub/a.JPG")):
        Image.fromarray(scene(seed).image).resize((64, 48)).save(folder / name)
    (folder / "bad.jpg").write_text("no picture")
    (folder / "notes.txt").write_text("not a picture either")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main(["extract", *arguments, "--cluster", "inline", "--quiet", "--json"])
    return code, json.loads(capsys.readouterr().out)


def sources(out: Path) -> list[str]:
    return [source for _, table in open_folder(out / "regions").tables() for source in table["source"].to_pylist()]


def test_a_folder_becomes_a_table_that_names_its_pictures_and_grows_with_the_folder(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    code, facts = run(capsys, str(photos), "--out", str(out), "--format", "lxmert-tsv", "--max-regions", "12")
    assert code == 0
    assert (facts["rows_in"], facts["rows_out"], facts["rejected"]) == (3, 2, {"damaged-image": 1})
    assert sources(out) == ["b.png", "sub/a.JPG"]
    (_, table), = open_folder(out / "quarantine" / "regions").tables()  # fmt: skip
    assert json.loads(table["row"].to_pylist()[0])["source"] == "bad.jpg"
    lines = list(good("lxmert-tsv", out / "regions.tsv").values())
    assert [(line.key, line.width, line.height) for line in lines] == [("b", 64, 48), ("sub/a", 64, 48)]
    assert max(len(line.boxes) for line in lines) <= 12

    code, facts = run(capsys, str(photos), "--out", str(out), "--max-regions", "12")
    assert (code, facts["shards_made"]) == (0, 0)
    code, facts = run(capsys, str(photos), "--out", str(out), "--max-regions", "13")
    assert code == 1
    assert "regions.max_regions: 12 → 13" in facts["what"]

    Image.new("RGB", (40, 40), "teal").save(photos / "a.png")  # before the others by name: it still comes last
    code, facts = run(capsys, str(photos), "--out", str(out), "--max-regions", "12")
    assert (code, facts["shards"], facts["shards_made"]) == (0, 2, 1)
    assert sources(out) == ["b.png", "sub/a.JPG", "a.png"]


def test_a_folder_without_pictures_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text("no picture")
    code, facts = run(capsys, str(tmp_path), "--out", str(tmp_path / "out"))
    assert (code, facts["what"]) == (1, "there is no picture in this folder")
    code, facts = run(capsys, str(tmp_path / "none"), "--out", str(tmp_path / "out"))
    assert (code, facts["what"]) == (1, "there is no such folder")


def test_a_folder_of_nothing_but_damaged_pictures_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.jpg").write_text("no picture")
    code, facts = run(capsys, str(tmp_path), "--out", str(tmp_path / "out"))
    assert code == 1
    assert "no picture of 1 has regions: {'damaged-image': 1}" in facts["what"]


def test_known_files_keep_their_place(photos: Path) -> None:
    told: list[tuple[int, int]] = []
    found = find(photos, photos / "out")
    rows = list_pictures(found, ["sub/a.JPG", "gone.png"], lambda done, total: told.append((done, total)))
    assert rows["source"].to_pylist() == ["sub/a.JPG", "b.png", "bad.jpg"]
    assert told == [(1, 3), (2, 3), (3, 3)]


ODD = (
    b"tab\there.png",
    b"line\nend.png",
    b"bad\xff\xfe.png",
    b"back\\slash.png",
    "ключ\u2028.png".encode(),
    b"a b.png",
)


def test_files_of_any_name_are_extracted_and_their_tsv_is_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names on Linux are bytes. A folder of such a name, with such files, gives a row and a line each."""
    folder = tmp_path / os.fsdecode(b"photos \xe9\t")
    folder.mkdir()
    for seed, name in enumerate(ODD):
        Image.fromarray(scene(seed).image).resize((64, 48)).save(folder / os.fsdecode(name))
    out = tmp_path / "out\t"
    code, facts = run(capsys, str(folder), "--out", str(out), "--format", "lxmert-tsv", "--max-regions", "10")
    assert (code, facts["rows_out"], facts["rejected"]) == (0, len(ODD), {})
    assert facts["tsv"] == f"{tmp_path}/out\\t/regions.tsv"
    stored = sources(out)
    assert sorted(as_path(source) for source in stored) == sorted(map(os.fsdecode, ODD))
    assert len((out / "regions.tsv").read_bytes().splitlines()) == len(ODD)
    assert list(good("lxmert-tsv", out / "regions.tsv")) == [source[: -len(".png")] for source in stored]
    code, facts = run(capsys, str(folder), "--out", str(out), "--max-regions", "10")
    assert (code, facts["shards_made"]) == (0, 0)
    code, facts = run(capsys, str(folder), "--out", str(tmp_path / os.fsdecode(b"\xff")))
    assert (code, facts["what"]) == (1, "the folder's name is not UTF-8")
    assert facts["where"] == f"--out {tmp_path}/\\xff"


def test_pictures_whose_names_clash_in_the_tsv_are_named_before_any_is_read(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("anim.gif", "anim.webp"):
        Image.new("RGB", (40, 40), "teal").save(photos / name)
    code, facts = run(capsys, str(photos), "--out", str(tmp_path / "out"), "--format", "lxmert-tsv")
    assert (code, facts["what"]) == (1, "anim.webp and anim.gif would both be 'anim' in the TSV")
    assert not (tmp_path / "out").exists()
    assert run(capsys, str(photos), "--out", str(tmp_path / "out"))[0] == 0  # a table takes both


def test_files_that_are_no_pictures_are_counted_by_their_ending(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.heic", "b.HEIC", "README", os.fsdecode(b"x.\xff")):
        (photos / name).write_bytes(b"")
    out = photos / "sub" / "out"  # what the command writes there is no file of the user's
    for _ in range(2):
        code, facts = run(capsys, str(photos), "--out", str(out))
        assert code == 0
        assert facts["ignored"] == {".heic": 2, ".txt": 1, "hidden": 1, "without an ending": 1, ".\\xff": 1}
    assert main(["extract", str(photos), "--out", str(out), "--cluster", "inline", "--quiet"]) == 0
    assert "6 other files ignored (.heic 2, " in capsys.readouterr().out


def test_missing_weights_are_named_before_the_folder_is_read(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PAIRLOOM_DETECTORS", str(tmp_path / "none"))
    code, facts = run(capsys, str(photos), "--detector", "butd-r101", "--out", str(tmp_path / "out"))
    assert (code, facts["what"]) == (1, "the detector's weights are missing")
    assert not (tmp_path / "out").exists()


def test_the_command_says_which_regions_are_kept(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--min-regions", "7", "--max-regions", "7", "--min-score", "0.9", "--nms", "0.3", "--batch", "2"]
    out = tmp_path / "out"
    assert run(capsys, str(photos), "--out", str(out), *words, "--device", "cpu")[0] == 0
    table = open_folder(out / "regions")
    assert {count for _, each in table.tables() for count in each["num_regions"].to_pylist()} == {7}
    settings = {name: table.header.config[name] for name in ("min_regions", "max_regions", "min_score", "nms", "batch")}
    assert settings == {"min_regions": 7, "max_regions": 7, "min_score": 0.9, "nms": 0.3, "batch": 2}
    code, facts = run(capsys, str(photos), "--out", str(out), "--nms", "0.3,0.5")
    assert (code, facts["what"]) == (1, "regions.nms is [0.3, 0.5], but this selection has one threshold")
    code, facts = run(capsys, str(photos), "--out", str(tmp_path / "few"), "--max-regions", "5")
    assert code == 0  # the starter keeps 10 at least unless told otherwise


@pytest.mark.parametrize("detector", ["butd-r101", "milvlg-d2-r50", "vinvl-x152c4"])
def test_few_regions_can_be_asked_of_every_detector(
    detector: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It goes as far as the weights, which are not there: `--max-regions 5` alone fits the selection's least."""
    code, facts = run(capsys, str(photos), "--detector", detector, "--out", str(tmp_path), "--max-regions", "5")
    assert (code, facts["what"]) == (1, "the detector's weights are missing")

"""`pairloom extract`: a folder of pictures to a regions table, and on again after a change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from formats.lxmert_tsv import read
from pairloom.store.folder import open_folder
from pipeline.cli import main
from stages.folder.files import list_pictures
from stages.regions.starter.evaluate import scene


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
    lines = list(read(out / "regions.tsv"))
    assert [(line.img_id, line.img_w, line.img_h) for line in lines] == [("b", 64, 48), ("sub/a", 64, 48)]
    assert max(line.num_boxes for line in lines) <= 12

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
    rows = list_pictures(photos, ["sub/a.JPG", "gone.png"], lambda done, total: told.append((done, total)))
    assert rows["source"].to_pylist() == ["sub/a.JPG", "b.png", "bad.jpg"]
    assert told == [(1, 3), (2, 3), (3, 3)]

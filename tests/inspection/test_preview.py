"""Preview shows a row of any table as text and JSON, and its picture with boxes as PNG or HTML."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inspection.preview import preview
from pairloom.errors import InputError
from pairloom.store.folder import open_folder
from tests.inspection.synthetic import FLOW


def first_id(data: Path, stage: str, shard: str, row: int) -> str:
    found: bytes = open_folder(data / stage).read(shard, ["image_id"])["image_id"][row].as_py()
    return found.hex()


@pytest.mark.parametrize("stage", ["urls", "download", "curate", "regions", "tags", "negatives"])
def test_a_row_of_any_table_is_shown_by_its_place(good: Path, stage: str) -> None:
    shown = preview(good / stage, "00001:2", FLOW)
    assert (shown.facts["shard"], shown.facts["row"]) == ("00001", 2)
    columns = open_folder(good / stage).read("00001").column_names
    assert list(shown.facts["columns"]) == columns
    assert all(f"  {column}" in shown.text for column in columns)
    json.dumps(shown.facts)


def test_a_row_of_the_quarantine_is_shown_with_its_reason(good: Path, tmp_path: Path) -> None:
    shown = preview(good / "quarantine" / "download", "http://sample.invalid/gone-00001.jpg", FLOW)
    assert "not-found" in shown.text
    kept = preview(
        good / "quarantine" / "curate", "00000:0", FLOW, tmp_path / "out.png"
    )  # download still has its picture
    assert kept.facts["columns"]["reason"] == "caption-length"
    assert (tmp_path / "out.png").exists()


def test_image_id_its_beginning_and_url_find_the_same_row(good: Path) -> None:
    image_id = first_id(good, "curate", "00001", 4)
    url = open_folder(good / "curate").read("00001", ["url"])["url"][4].as_py()
    found = [preview(good, name, FLOW).facts for name in (image_id, image_id[:8], url)]
    assert {(facts["table"], facts["shard"], facts["row"]) for facts in found} == {("pairs", "00001", 4)}


def test_words_of_the_regions_are_shown(good: Path) -> None:
    text = preview(good / "regions", "00000:0", FLOW).text
    assert "0.900  red square," in text
    assert "0.700  blue square," in text


def test_an_unknown_row_is_an_error_with_a_cure(good: Path) -> None:
    for name in ("ffffffffffff", "00000:99", "00009:0", "http://sample.invalid/none", ""):
        with pytest.raises(InputError, match="no row"):
            preview(good, name, FLOW)


def test_an_ambiguous_beginning_is_an_error(data: Path) -> None:
    ids = sorted(first_id(data, "curate", "00000", row) for row in range(9))
    for name in ids:  # four digits are the least that name an image, make two images share them
        if sum(other.startswith(name[:4]) for other in ids) > 1:
            with pytest.raises(InputError, match="2 rows begin"):
                preview(data, name[:4], FLOW)
    with pytest.raises(InputError, match="no row"):
        preview(data, ids[0][:3], FLOW)


def test_the_png_shows_the_picture_with_its_boxes(good: Path, tmp_path: Path) -> None:
    shown = preview(good / "tags", "00000:1", FLOW, tmp_path / "new" / "row.png")
    assert shown.text.endswith(f"picture: {tmp_path / 'new' / 'row.png'}")
    with Image.open(tmp_path / "new" / "row.png") as drawn:
        pixels = np.asarray(drawn.convert("RGB")).astype(int)
    row = open_folder(good / "regions").read("00000").slice(1, 1).to_pylist()[0]
    x1, _, x2, y2 = np.frombuffer(row["boxes"], "<f4").reshape(-1, 4)[0]
    scale = 800 / 160
    middle = pixels[int(scale * y2), int(scale * (x1 + x2) / 2)]
    assert np.abs(middle - (0xE5, 0x48, 0x4D)).max() < 4  # the lower edge of the best box, in the first colour


def test_the_page_holds_picture_boxes_and_text(good: Path, tmp_path: Path) -> None:
    preview(good / "shards", "train-00000:3", FLOW, tmp_path / "row.html")
    page = (tmp_path / "row.html").read_text(encoding="utf-8")
    assert "data:image/jpeg;base64," in page
    assert page.count('class="box') == 2 + 1  # two regions and the overlay
    assert "red square" in page


def test_a_table_alone_shows_its_rows_too(good: Path, tmp_path: Path) -> None:
    shutil.copytree(good / "regions", tmp_path / "regions")
    assert "red square" in preview(tmp_path / "regions", "00000:0", FLOW).text
    with pytest.raises(InputError, match="no picture"):
        preview(tmp_path / "regions", "00000:0", FLOW, tmp_path / "row.png")
    shutil.copytree(good / "shards", tmp_path / "alone" / "shards")
    preview(tmp_path / "alone" / "shards", "val-00000:0", FLOW, tmp_path / "row.png")
    with Image.open(io.BytesIO((tmp_path / "row.png").read_bytes())) as drawn:
        assert drawn.width == 800


def test_another_file_format_is_refused(good: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot write a picture as \.gif"):
        preview(good, "00000:0", FLOW, tmp_path / "row.gif")

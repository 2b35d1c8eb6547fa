"""Features beside pictures that are there: by key, in the order of the pictures, in pixels of the stored picture."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np

from formats.features.tables import records_of
from pairloom.extra import as_extra
from pairloom.store.folder import open_folder
from schemas.pairs import PAIRS
from tests.building import numbered, write_table
from tests.formats.features import made
from tests.pipeline.features.lists import reasons, records, refused, rows, run

RECORDS = records(10)


def pair(number: int, factor: float = 1.0) -> dict[str, Any]:
    """The picture of a record, stored at a part of its size."""
    one = RECORDS[number]
    assert one.width is not None
    assert one.height is not None
    key = int(one.key.rpartition("_")[2])
    url = f"coco:train2014/{one.key}.jpg" if number % 2 else f"http://h/{number}.jpg"
    extra = {} if number % 2 else {"coco_id": str(key)}
    return {
        "image_id": bytes([number]) * 16, "image": b"", "format": "jpeg", "url": url, "extra": as_extra(extra),
        "width": round(one.width * factor), "height": round(one.height * factor), "original_width": one.width,
        "original_height": one.height, "sha256": bytes(32), "phash": number, "source": "coco",
        "captions": [{"text": f"text {number}", "original": "", "lang": None, "kind": None}],
    }  # fmt: skip


def dataset(folder: Path, numbers: list[int], factor: float = 1.0) -> Path:
    parts = [numbers[:4], numbers[4:]]
    tables = []
    for part in parts:
        found = [pair(number, factor) for number in part]
        columns: dict[str, Any] = {name: [row[name] for row in found] for name in found[0]}
        tables.append(PAIRS.table(**columns))
    for stage in ("download", "curate"):
        write_table(folder / stage, PAIRS, numbered(tables), stage)
    return folder


def test_features_go_beside_their_pictures_in_any_order(tmp_path: Path) -> None:
    numbers = list(range(10))
    random.Random(0).shuffle(numbers)
    data = dataset(tmp_path / "data", numbers)
    made.write("lxmert-tsv", tmp_path / "in", RECORDS)
    said = run("import", tmp_path / "in", "--as", "lxmert-tsv", "--out", data)
    assert (said["images"], said["rejected"], said["shards"]) == (10, {}, 2)
    found = []
    for _, table in open_folder(data / "regions").tables():
        found += list(records_of(table, [image_id.hex() for image_id in table["image_id"].to_pylist()]))
    assert [one.key for one in found] == [(bytes([number]) * 16).hex() for number in numbers]
    for one, number in zip(found, numbers, strict=True):
        assert np.array_equal(one.features, RECORDS[number].features)
        assert np.allclose(one.boxes, RECORDS[number].boxes, rtol=0, atol=1e-4)
        assert (one.width, one.height) == (RECORDS[number].width, RECORDS[number].height)
    assert not (data / ".index/import").exists()


def test_boxes_follow_a_picture_that_is_stored_smaller(tmp_path: Path) -> None:
    data = dataset(tmp_path / "data", [0, 1, 2, 3, 4], 0.5)
    for layout in ("lxmert-tsv", "uniter-lmdb"):
        made.write(layout, tmp_path / layout, RECORDS[:5])
        run("import", tmp_path / layout, "--as", layout, "--out", data, "--redo")
        for number, row in enumerate(rows(data / "regions")):
            one = RECORDS[number]
            sides = np.array([row["width"] / one.width, row["height"] / one.height] * 2)
            boxes = np.frombuffer(row["boxes"], "<f4").reshape(-1, 4)
            assert np.allclose(boxes, one.boxes * sides, rtol=0, atol=0.25 if layout == "uniter-lmdb" else 1e-3)


def test_what_has_no_partner_is_named_on_both_sides(tmp_path: Path) -> None:
    data = dataset(tmp_path / "data", [0, 1, 2, 3, 4, 5])
    other = made.record(RECORDS[3].key, 2, 7)  # of a picture of another size
    made.write("lxmert-tsv", tmp_path / "in", [*RECORDS[:3], other, RECORDS[0], RECORDS[8]])
    said = run("import", tmp_path / "in", "--as", "lxmert-tsv", "--out", data)
    assert reasons(data / "quarantine/import") == {RECORDS[0].key: "doubled-key", RECORDS[8].key: "no-image"}
    left_out = {(bytes([number]) * 16).hex(): "no-features" for number in (4, 5)}
    assert reasons(data / "quarantine/regions") == left_out | {(bytes([3]) * 16).hex(): "bad-value"}
    assert said["images"] == 3
    assert said["rejected"] == {"bad-value": 1, "doubled-key": 1, "no-features": 2, "no-image": 1}


def test_pairs_that_are_not_curated_or_have_captions_are_told(tmp_path: Path) -> None:
    data = dataset(tmp_path / "data", [0, 1, 2, 3, 4])
    made.write("lxmert-tsv", tmp_path / "in", RECORDS)
    (tmp_path / "c.csv").write_text("image_id,caption\n1,one\n")
    command = ("import", tmp_path / "in", "--as", "lxmert-tsv", "--out", data)
    assert "leave --captions out" in refused(*command, "--captions", tmp_path / "c.csv")
    (data / "curate").rename(tmp_path / "elsewhere")
    assert "pairloom curate" in refused(*command)


def test_the_stages_after_regions_take_them(tmp_path: Path) -> None:
    data = dataset(tmp_path / "data", list(range(10)))
    made.write("lxmert-tsv", tmp_path / "in", RECORDS)
    run("import", tmp_path / "in", "--as", "lxmert-tsv", "--out", data)
    run("stage", "tags", "--data", data, "--metrics", tmp_path / "metrics", "--cluster", "inline")
    assert [row["image_id"][0] for row in rows(data / "tags")] == list(range(10))

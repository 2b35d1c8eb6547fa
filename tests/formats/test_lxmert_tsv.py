"""LXMERT's TSV against a decoder written as airsplay's own: csv fields, base64, frombuffer."""

from __future__ import annotations

import base64
import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.features.lxmert_tsv import read
from formats.features.record import Bad
from formats.lxmert_tsv import write
from pairloom.errors import InputError
from schemas.regions import REGIONS
from tests.building import numbered, write_table

WIDTH = 5
FIELDNAMES = [
    "img_id", "img_h", "img_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf", "num_boxes",
    "boxes", "features",
]  # fmt: skip


def load_obj_tsv(path: Path) -> list[dict[str, Any]]:
    """As the reader that LXMERT trains with."""
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8") as file:
        items: list[dict[str, Any]] = [dict(item) for item in csv.DictReader(file, FIELDNAMES, delimiter="\t")]
    for item in items:
        for key in ("img_h", "img_w", "num_boxes"):
            item[key] = int(item[key])
        boxes = item["num_boxes"]
        decode = (
            ("objects_id", (boxes,), np.int64),
            ("objects_conf", (boxes,), np.float32),
            ("attrs_id", (boxes,), np.int64),
            ("attrs_conf", (boxes,), np.float32),
            ("boxes", (boxes, 4), np.float32),
            ("features", (boxes, -1), np.float32),
        )
        for key, shape, dtype in decode:
            item[key] = np.frombuffer(base64.b64decode(item[key]), dtype=dtype).reshape(shape)
    return items


def regions_folder(folder: Path, sources: list[str | None], feature_dtype: str = "<f2") -> dict[str, Any]:
    """A finished regions table of these pictures in two shards, and what is in it."""
    rng = np.random.default_rng(len(sources))
    counts = [1 + i % 3 for i in range(len(sources))]
    columns: dict[str, Any] = {
        "image_id": [i.to_bytes(16, "big") for i in range(len(sources))],
        "source": sources,
        "width": [640 + i for i in range(len(sources))],
        "height": [480 - i for i in range(len(sources))],
        "num_regions": counts,
        "boxes": [rng.uniform(0, 480, (n, 4)).astype("<f4") for n in counts],
        "class_ids": [rng.integers(0, 1600, n).astype("<u2") for n in counts],
        "class_scores": [np.sort(rng.random(n).astype("<f4"))[::-1] for n in counts],
        "attribute_ids": [rng.integers(0, 400, n).astype("<u2") for n in counts],
        "attribute_scores": [rng.random(n).astype("<f4") for n in counts],
        "features": [rng.normal(size=(n, WIDTH)).astype(feature_dtype) for n in counts],
        "prob_ids": [np.zeros((n, 0)) for n in counts],
        "prob_values": [np.zeros((n, 0)) for n in counts],
    }
    half = (len(sources) + 1) // 2
    notes = {"feature_width": str(WIDTH), "feature_dtype": feature_dtype, "classes": json.dumps([])}
    parts = [{key: values[part] for key, values in columns.items()} for part in (slice(0, half), slice(half, None))]
    write_table(folder, REGIONS, numbered([REGIONS.table(metadata=notes, **part) for part in parts]))
    return columns


@pytest.mark.parametrize("feature_dtype", ["<f2", "<f4"])
def test_lxmerts_reader_gets_what_the_table_holds(tmp_path: Path, feature_dtype: str) -> None:
    wanted = regions_folder(tmp_path / "regions", ["a.jpg", "sub/b.c.png", None], feature_dtype)
    assert write(tmp_path / "regions", tmp_path / "out.tsv") == 3
    items = load_obj_tsv(tmp_path / "out.tsv")
    assert [item["img_id"] for item in items] == ["a", "sub/b.c", (2).to_bytes(16, "big").hex()]
    names = {"objects_id": "class_ids", "objects_conf": "class_scores", "attrs_id": "attribute_ids"}
    names |= {"attrs_conf": "attribute_scores", "boxes": "boxes", "features": "features"}
    for row, item in enumerate(items):
        assert (item["img_h"], item["img_w"]) == (wanted["height"][row], wanted["width"][row])
        for name, column in names.items():
            assert np.array_equal(item[name], wanted[column][row])
        assert item["features"].dtype == np.float32


def test_two_pictures_of_one_name_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    regions_folder(tmp_path / "regions", ["a.jpg", "b.jpg", "a.png"])
    with pytest.raises(InputError, match=r"a\.png and a\.jpg would both be 'a'"):
        write(tmp_path / "regions", tmp_path / "out.tsv")
    assert [path.name for path in tmp_path.iterdir()] == ["regions"]


@settings(deadline=None)
@given(
    cells=st.lists(
        st.text(st.characters(exclude_characters="\t\n\r", exclude_categories=["Cs"]), max_size=8), max_size=12
    )
)
def test_any_other_line_is_named_by_its_number(tmp_path_factory: pytest.TempPathFactory, cells: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "other.tsv"
    path.write_text("\t".join(["x", *cells]) + "\n", encoding="utf-8")
    (bad,) = read(path)
    assert isinstance(bad, Bad)
    assert bad.place == f"{path}, line 1"

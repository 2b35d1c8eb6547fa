"""Regions as the original extraction code wrote them."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from formats.golden import Golden, read
from pairloom.errors import InputError

BOXES = np.array([[0, 1, 20, 30], [4, 4, 9, 8]], np.float32)
FEATURES = np.arange(6, dtype=np.float32).reshape(2, 3)


def text(values: Any, kind: str) -> str:
    return base64.b64encode(np.asarray(values, kind).tobytes()).decode()


def butd_row(image_id: str) -> str:
    return "\t".join([image_id, "640", "480", "2", text(BOXES, "<f4"), text(FEATURES, "<f4")])


def lxmert_row(image_id: str) -> str:
    ids, scores = text([7, 1599], "<i8"), text([0.9, 0.25], "<f4")
    return "\t".join([image_id, "480", "640", ids, scores, ids, scores, "2", text(BOXES, "<f4"), text(FEATURES, "<f4")])


def the_same(golden: Golden) -> bool:
    assert (golden.width, golden.height) == (640, 480)
    return np.array_equal(golden.boxes, BOXES) and np.array_equal(golden.features, FEATURES)


def test_bottom_up_attentions_tsv_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text(butd_row("42") + "\n" + butd_row("43") + "\n")
    found = list(read(tmp_path))
    assert [each.image_id for each in found] == ["42", "43"]
    assert all(the_same(each) for each in found)
    assert not found[0].columns


def test_lxmerts_tsv_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text(lxmert_row("COCO_val2014_000000000042") + "\n")
    (found,) = read(tmp_path / "a.tsv")
    assert the_same(found)
    assert found.columns["objects_id"].tolist() == [7, 1599]
    assert found.columns["attrs_conf"].tolist() == [np.float32(0.9), 0.25]


def write_npz(path: Path, info: Any) -> None:
    np.savez(path, x=FEATURES, bbox=BOXES, num_bbox=2, image_h=480, image_w=640, info=info)


def test_milvlgs_npz_is_read(tmp_path: Path) -> None:
    info = {"image_id": "COCO_42", "image_h": 480, "image_w": 640, "objects_id": np.array([3, 5])}
    write_npz(tmp_path / "COCO_42.npz", info)
    (found,) = read(tmp_path)
    assert the_same(found)
    assert found.image_id == "COCO_42"
    assert found.columns["objects_id"].tolist() == [3, 5]


class Evil:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (self.command,)


def test_an_npz_that_would_run_a_command_is_refused_and_does_nothing(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", {"image_id": Evil(f"touch {tmp_path / 'trace'}")})
    with pytest.raises(InputError, match=r"posix.system|nt.system"):
        list(read(tmp_path))
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("1\t2\t3\n", "line 1 has 3 columns"),
        (butd_row("4")[:-5] + "\n", "line 1 does not hold base64|cannot be read"),
        (butd_row("4").replace("\t2\t", "\t3\t") + "\n", "cannot reshape"),
        (butd_row("4").replace("640", "wide") + "\n", "invalid literal"),
    ],
)
def test_a_damaged_tsv_is_an_error_that_names_it(tmp_path: Path, body: str, message: str) -> None:
    (tmp_path / "a.tsv").write_text(body)
    with pytest.raises(InputError, match=message) as raised:
        list(read(tmp_path))
    assert str(tmp_path / "a.tsv") in str(raised.value)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no regions"):
        list(read(tmp_path))

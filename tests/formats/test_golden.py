"""Regions as the original extraction code wrote them."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

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


def test_the_npz_of_milvlgs_detectron2_mode_is_read_with_its_tensors(tmp_path: Path) -> None:
    """As utils/extract_d2features.py saves it: `attrs_id` are probabilities, `attrs_scores` those of all proposals."""
    probs = torch.tensor([[0.1, 0.2, 0.7, 0.0], [0.6, 0.3, 0.1, 0.0]])[:, :3]  # a view: strides are not its own shape's
    info: Any = {
        "objects": np.array([3, 0]),
        "cls_prob": np.array([[0, 0.1, 0, 0.75], [0.5, 0, 0, 0.25]], np.float32),
        "attrs_id": probs,
        "attrs_scores": torch.zeros(5, 3).half(),
    }
    np.savez_compressed(
        tmp_path / "42.npz", x=FEATURES, bbox=BOXES, num_bbox=2, image_h=480, image_w=640, image_h_inner=600, info=info
    )
    (found,) = read(tmp_path)
    assert the_same(found)
    assert found.image_id == "42"
    assert found.columns["objects_id"].tolist() == [3, 0]
    assert found.columns["objects_conf"].tolist() == [0.75, 0.5]
    assert found.columns["attrs_id"].tolist() == [2, 0]
    assert found.columns["attrs_conf"].tolist() == [np.float32(0.7), np.float32(0.6)]


class Pretending:
    """Pickled as a tensor whose numbers come from these bytes, or which lies elsewhere in them."""

    def __init__(self, storage: bytes, offset: int = 0) -> None:
        self.storage, self.offset = storage, offset

    def __reduce__(self) -> tuple[Any, ...]:
        held = Bytes(self.storage)
        return torch._utils._rebuild_tensor_v2, (held, self.offset, (2,), (1,), False, None)


class Bytes:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> tuple[Any, ...]:
        return torch.storage._load_from_bytes, (self.data,)


def saved(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def test_a_tensor_that_is_none_is_refused(tmp_path: Path) -> None:
    evil = saved(Evil(f"touch {tmp_path / 'trace'}"))
    good = saved(torch.zeros(3)._typed_storage())
    for content in (Pretending(evil), Pretending(saved([1, 2])), Pretending(good, 2), Pretending(good[:-9])):
        write_npz(tmp_path / "a.npz", {"attrs_id": content})
        with pytest.raises(InputError, match="cannot be read"):
            list(read(tmp_path / "a.npz"))
    assert not (tmp_path / "trace").exists()


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
        ("1\t2\t3\n", "3 columns, neither 6 nor 7"),
        (butd_row("4")[:-5] + "\n", "features is not base64|cannot be read"),
        (butd_row("4").replace("\t2\t", "\t3\t") + "\n", "boxes has 32 bytes, not 3 × 4"),
        (butd_row("4").replace("640", "wide") + "\n", "image_w is 'wide', not a number"),
    ],
)
def test_a_damaged_tsv_is_an_error_that_names_it(tmp_path: Path, body: str, message: str) -> None:
    (tmp_path / "a.tsv").write_text(body)
    with pytest.raises(InputError, match=message) as raised:
        list(read(tmp_path))
    assert f"{tmp_path / 'a.tsv'}, line 1" in str(raised.value)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no regions"):
        list(read(tmp_path))

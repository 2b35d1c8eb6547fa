"""What can't be read is named by key, place and reason, and the rest is read. No file may run its code."""

from __future__ import annotations

import base64
import binascii
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import msgpack
import msgpack_numpy
import numpy as np
import pytest
import torch

from formats.features.record import Bad, Record
from pairloom.errors import ConfigError, InputError
from tests.formats.features import made

RECORDS = [made.record(f"picture {number}", 2 + number, number) for number in range(4)]
LINES = ["lxmert-tsv", "butd-tsv", "vinvl-tsv", "oscar-tsv"]
FILES = {"vinvl-tsv": "predictions.tsv"}
ENTRIES = ["uniter-npz", "milvlg-npz", "mmf-npy", "detectron2-instances"]


def bad(layout: str, folder: Path, **kinds: Any) -> list[Bad]:
    return [one for one in made.read(layout, folder, **kinds) if isinstance(one, Bad)]


def keys(layout: str, folder: Path) -> list[str]:
    return sorted(one.key for one in made.read(layout, folder) if isinstance(one, Record))


def written(layout: str, folder: Path, change: Callable[[list[bytes]], list[bytes]]) -> Path:
    """The file of features of four pictures, its lines changed."""
    file = made.write(layout, folder, RECORDS) / FILES.get(layout, "features.tsv")
    file.write_bytes(b"".join(change(file.read_bytes().splitlines(keepends=True))))
    return file


@pytest.mark.parametrize("layout", LINES)
def test_a_line_cut_off_at_the_end_of_the_file(layout: str, tmp_path: Path) -> None:
    file = written(layout, tmp_path, lambda lines: [*lines[:3], lines[3][: len(lines[3]) * 2 // 3]])
    (found,) = bad(layout, tmp_path)
    assert (found.key, found.reason) == ("picture 3", "cut-off")
    assert found.place == f"{file}, line 4"
    assert len(keys(layout, tmp_path)) == 3


@pytest.mark.parametrize("layout", LINES)
def test_a_last_line_without_a_line_end_is_read(layout: str, tmp_path: Path) -> None:
    written(layout, tmp_path, lambda lines: [*lines[:3], lines[3].rstrip(b"\n")])
    assert len(keys(layout, tmp_path)) == 4


@pytest.mark.parametrize("layout", LINES)
def test_broken_base64_costs_its_own_line_alone(layout: str, tmp_path: Path) -> None:
    def break_second(lines: list[bytes]) -> list[bytes]:
        at = lines[1].rindex(b"=") if b"=" in lines[1] else len(lines[1]) - 20
        return [lines[0], lines[1][: at - 8] + b"!" + lines[1][at - 7 :], *lines[2:]]

    written(layout, tmp_path, break_second)
    (found,) = bad(layout, tmp_path)
    assert (found.key, found.reason) == ("picture 1", "bad-features")
    assert keys(layout, tmp_path) == ["picture 0", "picture 2", "picture 3"]


@pytest.mark.parametrize("layout", ["lxmert-tsv", "butd-tsv"])
def test_numbers_of_another_width_are_named_and_read_when_asked(layout: str, tmp_path: Path) -> None:
    file = tmp_path / "features.tsv"
    doubles = lambda values, dtype: binascii.b2a_base64(  # noqa: E731
        np.asarray(values, "<f8" if dtype == "<f4" else dtype).tobytes(), newline=False
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"formats.features.{layout.replace('-', '_')}.encoded", doubles)
        made.write(layout, tmp_path, RECORDS)
    found = bad(layout, file)
    assert [one.reason for one in found] == ["other-width"] * 4
    assert "--floats float64" in found[0].detail
    good = made.good(layout, file, "<f8")
    assert np.array_equal(good["picture 2"].features, RECORDS[2].features)
    assert good["picture 2"].features.dtype == np.float64


def test_python_3_bytes_and_headings_are_understood(tmp_path: Path) -> None:
    def as_python_3(lines: list[bytes]) -> list[bytes]:
        cells = [line.rstrip(b"\n").split(b"\t") for line in lines]
        heading = [b"image_id\timage_w\timage_h\tnum_boxes\tboxes\tfeatures\n"]
        return heading + [b"\t".join([*row[:4], b"b'" + row[4] + b"'", b"b'" + row[5] + b"'"]) + b"\n" for row in cells]

    written("butd-tsv", tmp_path, as_python_3)
    found = made.good("butd-tsv", tmp_path)
    assert np.array_equal(found["picture 1"].features, RECORDS[1].features)
    assert found["picture 1"].probs is None


def test_lxmerts_eight_columns_have_no_attributes(tmp_path: Path) -> None:
    written(
        "lxmert-tsv",
        tmp_path,
        lambda lines: [b"\t".join((cells := line.split(b"\t"))[:5] + cells[7:]) for line in lines],
    )
    found = made.good("lxmert-tsv", tmp_path)
    assert found["picture 3"].attribute_ids is None
    made.assert_same("lxmert-tsv", found["picture 3"], RECORDS[3])


@pytest.mark.parametrize("layout", ENTRIES)
def test_a_damaged_file_costs_itself_alone(layout: str, tmp_path: Path) -> None:
    made.write(layout, tmp_path, RECORDS)
    (file,) = (each for each in tmp_path.glob("picture 1.*"))
    file.write_bytes(file.read_bytes()[:-200])
    (found,) = bad(layout, tmp_path)
    assert (found.key, found.reason) == ("picture 1", "bad-features")
    assert keys(layout, tmp_path) == ["picture 0", "picture 2", "picture 3"]


def test_features_without_info_and_info_without_features(tmp_path: Path) -> None:
    made.write("mmf-npy", tmp_path, RECORDS)
    (tmp_path / "picture 0_info.npy").unlink()
    (tmp_path / "picture 2.npy").unlink()
    found = {one.key: one for one in bad("mmf-npy", tmp_path)}
    assert "picture 0_info.npy" in found["picture 0"].detail
    assert found["picture 2"].reason == "no-features"


@pytest.mark.parametrize("layout", ["uniter-lmdb", "vilbert-lmdb"])
def test_keys_that_a_database_lists_and_lacks(layout: str, tmp_path: Path) -> None:
    made.write(layout, tmp_path, RECORDS)
    (folder,) = [path.parent for path in tmp_path.glob("*/data.mdb")]
    key = b"picture 2" + (b".npz" if layout == "uniter-lmdb" else b"")
    with lmdb.open(str(folder), map_size=1 << 30) as env, env.begin(write=True) as txn:
        assert txn.delete(key)
        txn.put(b"picture 1" + key[9:], b"no such thing")
    found = {one.key: one.reason for one in bad(layout, folder)}
    assert found == {"picture 1": "bad-features", "picture 2": "no-features"}


def test_oscars_labels_may_be_in_another_order_and_lack_some(tmp_path: Path) -> None:
    made.write("oscar-tsv", tmp_path, RECORDS)
    file = tmp_path / "predictions.tsv"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([lines[3], lines[0], lines[2]]))
    (found,) = bad("oscar-tsv", tmp_path)
    assert (found.key, found.reason) == ("picture 1", "bad-features")
    for number in (0, 2, 3):
        good = [one for one in made.read("oscar-tsv", tmp_path) if isinstance(one, Record)]
        made.assert_same("oscar-tsv", {one.key: one for one in good}[f"picture {number}"], RECORDS[number])


def test_oscars_size_comes_from_six_numbers_where_the_labels_are_a_plain_list(tmp_path: Path) -> None:
    made.write("oscar-tsv", tmp_path, RECORDS)
    file = tmp_path / "predictions.tsv"
    rows = [line.split("\t") for line in file.read_text().splitlines()]
    (tmp_path / "label.tsv").write_text(
        "".join(f"{key}\t{json.dumps(json.loads(text)['objects'])}\n" for key, text in rows)
    )
    file.unlink()
    found = made.good("oscar-tsv", tmp_path)
    for one in RECORDS:
        made.assert_same("oscar-tsv", found[one.key], one)


def test_oscars_captioning_files(tmp_path: Path) -> None:
    made.write("oscar-tsv", tmp_path / "made", RECORDS)
    rows = [line.split("\t") for line in (tmp_path / "made/features.tsv").read_text().splitlines()]
    lines = [f"{key}\t{json.dumps({'num_boxes': int(count), 'features': text})}\n" for key, count, text in rows]
    (tmp_path / "train.feature.tsv").write_text("".join(lines))
    (tmp_path / "train.label.tsv").write_bytes((tmp_path / "made/predictions.tsv").read_bytes())
    found = made.good("oscar-tsv", tmp_path / "train.feature.tsv")
    for one in RECORDS:
        made.assert_same("oscar-tsv", found[one.key], one)


def test_oscars_tensors_for_questions(tmp_path: Path) -> None:
    made.write("oscar-tsv", tmp_path / "made", RECORDS)
    rows = [line.split("\t") for line in (tmp_path / "made/features.tsv").read_text().splitlines()]
    wide = {key: np.frombuffer(base64.b64decode(text), "<f4").reshape(int(count), -1) for key, count, text in rows}
    tensors = {key: torch.tensor(values) for key, values in wide.items()}
    for zipped in (True, False):
        file = tmp_path / f"{zipped}_img_frcnn_feats.pt"
        torch.save({**tensors, "odd": torch.zeros(3)}, file, _use_new_zipfile_serialization=zipped)
        read = made.read("oscar-tsv", file)
        found = {one.key: one for one in read if isinstance(one, Record)}
        assert [one.key for one in read if isinstance(one, Bad)] == ["odd"]
        for one in RECORDS:
            sides = [one.width, one.height] * 2
            assert np.array_equal(found[one.key].features, one.features)
            assert np.allclose(found[one.key].boxes, np.asarray(one.boxes) / sides, atol=1e-6)
    torch.save(torch.zeros(3), tmp_path / "one.pt")
    with pytest.raises(InputError, match="no tensors by the keys"):
        made.read("oscar-tsv", tmp_path / "one.pt")


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch pwned",)


def test_no_pickle_in_a_file_runs_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    record = made.record("a", 2)
    layouts = ("vilbert-lmdb", "uniter-lmdb", "milvlg-npz", "mmf-npy", "detectron2-instances")
    for layout in layouts:
        made.write(layout, tmp_path / layout, [record])
    with lmdb.open(str(tmp_path / "vilbert-lmdb/features.lmdb"), map_size=1 << 30) as env, env.begin(write=True) as txn:
        txn.put(b"b", pickle.dumps({"boxes": Evil()}))
    (uniter,) = [path.parent for path in (tmp_path / "uniter-lmdb").glob("*/data.mdb")]
    with lmdb.open(str(uniter), map_size=1 << 30) as env, env.begin(write=True) as txn:
        values = np.array([Evil(), Evil()], dtype=object)
        txn.put(b"b.npz", msgpack.dumps({"features": values}, default=msgpack_numpy.encode))
    np.savez(tmp_path / "milvlg-npz/b.npz", x=np.zeros((1, 2)), bbox=np.zeros((1, 4)), info=np.array(Evil(), object))
    np.save(tmp_path / "mmf-npy/b.npy", np.array({"features": Evil()}, object))
    (tmp_path / "detectron2-instances/b.pkl").write_bytes(pickle.dumps(Evil()))
    torch.save(Evil(), tmp_path / "detectron2-instances/b.pth")
    for layout in layouts:
        assert {one.key for one in bad(layout, tmp_path / layout)} == {"b"}
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("layout", [*LINES, *ENTRIES, "vilbert-lmdb", "volta-h5", "grid-npy"])
def test_a_folder_without_features_is_named(layout: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        made.read(layout, tmp_path)
    assert str(tmp_path) in str(error.value)


def test_an_unknown_layout_names_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match="lxmert-tsv"):
        made.read("lxmert", Path())


@pytest.mark.parametrize("key", ["../../outside", "/tmp/outside", "x" * 300])
def test_a_key_that_is_no_file_is_refused(key: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--key"):
        made.write("milvlg-npz", tmp_path, [made.record(key, 1)])

"""Every layout of features: what is written is read back, and by readers as the layouts' own repositories have them."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import pickle
import signal
import sys
from pathlib import Path
from typing import Any

import h5py
import lmdb
import msgpack
import msgpack_numpy
import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from formats import features
from formats.features.lines import lines
from formats.features.record import Bad, Record
from pairloom.errors import InputError
from tests.formats.features import made

LAYOUTS = [name for name in features.names() if name != "grid-npy"]
RECORDS = [made.record(f"COCO_train2014_{number:012d}", 1 + number % 4, number) for number in range(7)]
# What file names, HDF5 groups and LMDB keys can all be; a key that a layout can't hold is refused (below).
KEYS = st.text(st.characters(codec="utf-8", exclude_characters="/\\\0", exclude_categories=("Cc", "Cs", "Zl", "Zp")))
KEYS = KEYS.filter(lambda key: key.strip(" .") == key and key not in ("", "keys", "__keys__", "img_id", "image_id"))
KEYS = KEYS.filter(lambda key: len(key.encode()) < 80 and not key.startswith('"') and not key.endswith("_info"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_written_is_read_back(layout: str, tmp_path: Path) -> None:
    found = made.good(layout, made.write(layout, tmp_path, RECORDS))
    assert sorted(found) == [one.key for one in RECORDS]
    for one in RECORDS:
        made.assert_same(layout, found[one.key], one)


@pytest.mark.parametrize("layout", ["lxmert-tsv", "vinvl-tsv", "oscar-tsv", "volta-h5", "uniter-npz"])
def test_any_key_and_any_number_of_regions(layout: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    @settings(max_examples=6)
    @given(st.dictionaries(KEYS, st.integers(1, 120), min_size=1, max_size=4))
    def holds(counts: dict[str, int]) -> None:
        records = [made.record(key, count, number) for number, (key, count) in enumerate(counts.items())]
        found = made.good(layout, made.write(layout, tmp_path_factory.mktemp("any"), records))
        assert found.keys() == counts.keys()
        for one in records:
            made.assert_same(layout, found[one.key], one)

    holds()


def test_a_grid_is_read_back_and_by_numpy(tmp_path: Path) -> None:
    records = [made.grid("7", 3, 5), made.grid("8", 2, 2)]
    made.write("grid-npy", tmp_path, records)
    found = made.good("grid-npy", tmp_path)
    for one in records:
        made.assert_same("grid-npy", found[one.key], one)
    values = np.load(tmp_path / "7.npy")
    assert values.shape == (1, made.WIDTH, 3, 5)
    assert np.array_equal(values[0, :, 1, 2], records[0].features[1 * 5 + 2])
    assert np.allclose(found["7"].boxes[1 * 5 + 2], [2 / 5, 1 / 3, 3 / 5, 2 / 3])


def test_instances_as_detectron2s_users_save_them(tmp_path: Path) -> None:
    from stages.regions.d2 import Boxes, Instances

    one = RECORDS[3]
    assert one.width is not None
    assert one.height is not None
    found = Instances((one.height, one.width), pred_boxes=Boxes(torch.tensor(one.boxes)))
    found.scores, found.pred_classes = torch.tensor(one.class_scores), torch.tensor(one.class_ids)
    vectors = torch.tensor(one.features)
    whole = Instances(found.image_size, **found.get_fields(), features=vectors)
    torch.save((found, vectors), tmp_path / "1.pth")  # py-bottom-up-attention's pair
    torch.save({"instances": found, "roi_features": vectors}, tmp_path / "2.pt")
    torch.save(whole.to("cpu"), tmp_path / "3.pth", _use_new_zipfile_serialization=False)  # of torch before 1.6
    for name, content in (("4.pkl", whole), ("5.pickle", (found, vectors.numpy())), ("6.pkl", {"instances": whole})):
        (tmp_path / name).write_bytes(pickle.dumps(content))
    read = made.good("detectron2-instances", tmp_path)
    assert sorted(read) == ["1", "2", "3", "4", "5", "6"]
    for each in read.values():
        made.assert_same("detectron2-instances", each, one)
    torch.save(found, tmp_path / "7.pth")
    (bad,) = [each for each in made.read("detectron2-instances", tmp_path) if isinstance(each, Bad)]
    assert "have no features" in bad.detail


# Readers written as the repositories describe their own; none of them is our code.


def decoded(text: str, dtype: Any, *shape: int) -> Any:
    return np.frombuffer(base64.b64decode(text), dtype).reshape(shape)


def lxmert(folder: Path) -> dict[str, dict[str, Any]]:
    csv.field_size_limit(sys.maxsize)
    names = ["img_id", "img_h", "img_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf", "num_boxes"]
    names += ["boxes", "features"]
    items = {}
    with (folder / "features.tsv").open() as file:
        for item in csv.DictReader(file, names, delimiter="\t"):
            count = int(item["num_boxes"])
            items[item["img_id"]] = {
                "size": (int(item["img_w"]), int(item["img_h"])),
                "boxes": decoded(item["boxes"], np.float32, count, 4),
                "features": decoded(item["features"], np.float32, count, -1),
                "class_ids": decoded(item["objects_id"], np.int64, count),
                "class_scores": decoded(item["objects_conf"], np.float32, count),
                "attribute_ids": decoded(item["attrs_id"], np.int64, count),
                "attribute_scores": decoded(item["attrs_conf"], np.float32, count),
            }
    return items


def butd(folder: Path) -> dict[str, dict[str, Any]]:
    csv.field_size_limit(sys.maxsize)
    names = ["image_id", "image_w", "image_h", "num_boxes", "boxes", "features", "cls_prob"]
    items = {}
    with (folder / "features.tsv").open() as file:
        for item in csv.DictReader(file, delimiter="\t", fieldnames=names):
            count = int(item["num_boxes"])
            items[item["image_id"]] = {
                "size": (int(item["image_w"]), int(item["image_h"])),
                "boxes": decoded(item["boxes"], np.float32, count, 4),
                "features": decoded(item["features"], np.float32, count, -1),
                "probs": decoded(item["cls_prob"], np.float32, count, -1),
            }
    return items


def of_uniter(content: Any) -> dict[str, Any]:
    assert all(content[name].dtype == np.float16 for name in ("features", "norm_bb", "conf", "soft_labels"))
    shares = content["norm_bb"].astype(np.float32)
    assert shares.shape[1] == 6
    assert np.allclose(shares[:, 4:], shares[:, 2:4] - shares[:, :2], atol=1e-3)
    return {
        "shares": shares[:, :4],
        "features": content["features"],
        "class_scores": content["conf"][:, 0],
        "probs": content["soft_labels"],
    }


def uniter_npz(folder: Path) -> dict[str, dict[str, Any]]:
    return {file.stem: of_uniter(np.load(file)) for file in folder.glob("*.npz")}


def uniter_lmdb(folder: Path, compressed: bool) -> dict[str, dict[str, Any]]:
    """As DetectFeatLmdb: the database by its settings, the number of regions from the file beside it."""
    nbb = json.loads((folder / "nbb_th0.2_max100_min10.json").read_text())
    name = "feat_th0.2_max100_min10" + ("_compressed" if compressed else "")
    items = {}
    with lmdb.open(str(folder / name), readonly=True, create=False) as env, env.begin(buffers=True) as txn:
        assert sorted(json.loads(bytes(txn.get(b"__keys__") or b"").decode())) == sorted(nbb)
        for file_name in nbb:
            dump = txn.get(file_name.encode("utf-8")) or b""
            if compressed:
                content = dict(np.load(io.BytesIO(dump), allow_pickle=True))
            else:
                content = msgpack.loads(dump, object_hook=msgpack_numpy.decode, raw=False)
            assert nbb[file_name] == min(len(content["conf"]), 100, max(10, (content["conf"] > 0.2).sum()))
            items[file_name.removesuffix(".npz")] = of_uniter(content)
    return items


class TSVFile:
    """As Oscar and VinVL read a line: seek to where the .lineidx says."""

    def __init__(self, path: Path) -> None:
        self.path, self.places = path, [int(line) for line in path.with_suffix(".lineidx").read_text().splitlines()]

    def row(self, number: int) -> list[str]:
        with self.path.open(encoding="utf-8") as file:
            file.seek(self.places[number])
            return [cell.strip() for cell in file.readline().split("\t")]

    def rows(self) -> list[list[str]]:
        return [self.row(number) for number in range(len(self.places))]


def of_objects(found: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "boxes": np.array([one["rect"] for one in found], np.float32),
        "class_names": [one["class"] for one in found],
        "class_scores": np.array([one["conf"] for one in found], np.float32),
    }


def vinvl(folder: Path) -> dict[str, dict[str, Any]]:
    sizes = {key: json.loads(size)[0] for key, size in TSVFile(folder / "hw.tsv").rows()}
    items = {}
    for key, text in TSVFile(folder / "predictions.tsv").rows():
        found = json.loads(text)["objects"]
        vectors = [np.frombuffer(base64.b64decode(one["feature"]), np.float32) for one in found]
        own = {"features": np.stack(vectors), "size": (sizes[key]["width"], sizes[key]["height"])}
        items[key] = own | of_objects(found)
    return items


def oscar(folder: Path) -> dict[str, dict[str, Any]]:
    numbered = json.loads((folder / "imageid2idx.json").read_text())
    labels, vectors = TSVFile(folder / "predictions.tsv"), TSVFile(folder / "features.tsv")
    items: dict[str, dict[str, Any]] = {}
    for key, number in numbered.items():
        own, row = json.loads(labels.row(number)[1]), vectors.row(number)
        count = int(row[1])
        values = np.frombuffer(base64.b64decode(row[-1]), np.float32).reshape((count, -1))
        width, height = own["image_w"], own["image_h"]
        items[key] = {"features": values[:, :-6], "size": (width, height)} | of_objects(own["objects"])
        x1, y1, x2, y2 = items[key]["boxes"].T
        shares = np.stack([x1 / width, y1 / height, x2 / width, y2 / height, (x2 - x1) / width, (y2 - y1) / height], 1)
        assert np.allclose(values[:, -6:], shares, atol=1e-6)
    return items


def vilbert(folder: Path, as_base64: bool) -> dict[str, dict[str, Any]]:
    items = {}
    with lmdb.open(str(folder / "features.lmdb"), readonly=True, lock=False) as env, env.begin(write=False) as txn:
        for key in pickle.loads(txn.get(b"keys") or b""):
            item = pickle.loads(txn.get(key) or b"")
            assert item["image_id"].encode() == key
            count = int(item["num_boxes"])
            shapes = {"boxes": (count, 4), "features": (count, -1), "cls_prob": (count, -1)}
            for name, shape in shapes.items():
                value = base64.b64decode(item[name]) if as_base64 else item[name].tobytes()
                item[name] = np.frombuffer(value, dtype=np.float32).reshape(shape)
            size = (int(item["image_w"]), int(item["image_h"]))
            own = {"boxes": item["boxes"], "features": item["features"], "probs": item["cls_prob"]}
            items[key.decode()] = own | {"size": size}
    return items


def volta(folder: Path) -> dict[str, dict[str, Any]]:
    called = {"boxes": "boxes", "features": "features", "obj_id": "class_ids", "obj_conf": "class_scores"}
    called |= {"attr_id": "attribute_ids", "attr_conf": "attribute_scores", "cls_prob": "probs"}
    items = {}
    with h5py.File(folder / "features.h5", "r") as file:
        for key in file:
            own = {field: file[f"{key}/{name}"][()] for name, field in called.items()}
            items[key] = own | {"size": (int(file[f"{key}/img_w"][()]), int(file[f"{key}/img_h"][()]))}
    return items


def milvlg(folder: Path) -> dict[str, dict[str, Any]]:
    items = {}
    for path in folder.glob("*.npz"):
        file = np.load(path, allow_pickle=True)
        info = file["info"].item()
        assert len(file["x"]) == file["num_bbox"] == info["num_boxes"]
        own = {"boxes": file["bbox"], "features": file["x"], "size": (int(file["image_w"]), int(file["image_h"]))}
        own |= {"class_ids": info["objects_id"], "class_scores": info["objects_conf"]}
        items[path.stem] = own | {"attribute_ids": info["attrs_id"], "attribute_scores": info["attrs_conf"]}
    return items


def mmf(folder: Path) -> dict[str, dict[str, Any]]:
    items = {}
    for path in folder.glob("*_info.npy"):
        info = np.load(path, allow_pickle=True).item()
        own = {"features": np.load(folder / f"{path.name.removesuffix('_info.npy')}.npy"), "boxes": info["bbox"]}
        own |= {"size": (info["image_width"], info["image_height"]), "class_ids": info["objects"]}
        items[str(info["image_id"])] = own | {"probs": info["cls_prob"]}
    return items


def detectron2(folder: Path) -> dict[str, dict[str, Any]]:
    """As detectron2's users: torch.load of a real Instances."""
    from stages.regions.d2 import Instances

    items = {}
    for path in folder.glob("*.pth"):
        found = torch.load(path, weights_only=False)
        assert isinstance(found, Instances)
        height, width = found.image_size
        own = {
            "size": (width, height),
            "boxes": found.pred_boxes.tensor.numpy(),
            "features": found.roi_features.numpy(),
        }
        own |= {"class_ids": found.pred_classes.numpy(), "class_scores": found.scores.numpy()}
        own |= {"attribute_ids": found.attr_classes.numpy(), "attribute_scores": found.attr_scores.numpy()}
        items[path.stem] = own
    return items


READERS = {
    "lxmert-tsv": lxmert,
    "butd-tsv": butd,
    "uniter-npz": uniter_npz,
    "uniter-lmdb": lambda folder: uniter_lmdb(folder, False),
    "uniter-lmdb-compressed": lambda folder: uniter_lmdb(folder, True),
    "vinvl-tsv": vinvl,
    "oscar-tsv": oscar,
    "vilbert-lmdb": lambda folder: vilbert(folder, False),
    "vilbert-beta-lmdb": lambda folder: vilbert(folder, True),
    "volta-h5": volta,
    "milvlg-npz": milvlg,
    "mmf-npy": mmf,
    "detectron2-instances": detectron2,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layouts_own_reader_gets_the_same(layout: str, tmp_path: Path) -> None:
    found = READERS[layout](made.write(layout, tmp_path, RECORDS))
    assert sorted(found) == [one.key for one in RECORDS]
    for one in RECORDS:
        for name, values in found[one.key].items():
            compare(name, values, one)


def compare(name: str, values: Any, wanted: Record) -> None:
    sides = [wanted.width, wanted.height]
    if name == "size":
        assert values == tuple(sides)
    elif name == "shares":  # float16: half a unit in the last place of numbers up to 1
        assert np.allclose(values, np.asarray(wanted.boxes) / (sides * 2), rtol=0, atol=2.5e-4)
    elif name == "class_names":
        assert wanted.class_ids is not None
        assert values == [made.WORDS.classes[number] for number in wanted.class_ids]
    elif name == "boxes":
        assert np.allclose(values, wanted.boxes, rtol=0, atol=1e-4)
    else:
        assert np.array_equal(values, getattr(wanted, name)), name


def killed(layout: str, folder: Path) -> Any:
    """The state after three pictures, of a process that is killed while it writes the fourth."""
    child = os.fork()
    if not child:
        writer, entry = features.load(layout).Writer(folder, made.WORDS, {}), features.load(layout).entry
        for one in RECORDS[:3]:
            writer.add(entry(one, made.WORDS))
        (folder.parent / "state.json").write_text(json.dumps(writer.flush()))
        writer.add(entry(RECORDS[3], made.WORDS))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    return json.loads((folder.parent / "state.json").read_text())


@pytest.mark.parametrize("layout", ["lxmert-tsv", "vinvl-tsv", "oscar-tsv", "vilbert-lmdb", "uniter-lmdb"])
def test_a_writer_goes_on_where_another_flushed(layout: str, tmp_path: Path) -> None:
    whole = made.write(layout, tmp_path / "whole", RECORDS)
    folder = tmp_path / "resumed"
    folder.mkdir()
    state = killed(layout, folder)
    second = features.load(layout).Writer(folder, made.WORDS, state)
    for one in RECORDS[3:]:
        second.add(features.load(layout).entry(one, made.WORDS))
    second.close()
    names = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    for name in names:
        if name.suffix != ".mdb":
            assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    assert made.good(layout, folder).keys() == made.good(layout, whole).keys()


def test_vinvls_yaml_names_its_files_wherever_they_are(tmp_path: Path) -> None:
    made.write("vinvl-tsv", tmp_path, RECORDS)
    (tmp_path / "sizes").mkdir()
    (tmp_path / "predictions.tsv").rename(tmp_path / "train.tsv")
    (tmp_path / "hw.tsv").rename(tmp_path / "sizes/train.hw.tsv")
    names = {"feature": "train.tsv", "hw": "sizes/train.hw.tsv", "labelmap": "labelmap.tsv"}
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(names))
    found = made.good("vinvl-tsv", tmp_path / "train.yaml")
    for one in RECORDS:
        made.assert_same("vinvl-tsv", found[one.key], one)
    (tmp_path / "train.yaml").write_text("hw: sizes/none.tsv\nlabel: train.tsv")
    with pytest.raises(InputError, match=r"none\.tsv is not there"):
        made.read("vinvl-tsv", tmp_path / "train.yaml")


def test_lineidx_says_where_each_line_starts(tmp_path: Path) -> None:
    made.write("oscar-tsv", tmp_path, RECORDS)
    starts = [int(text) for text in (tmp_path / "features.lineidx").read_text().split()]
    assert starts == [line.start for line in lines(tmp_path / "features.tsv")]

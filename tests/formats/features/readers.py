"""Readers written as the layouts' repositories describe their own. None of them is our code."""

from __future__ import annotations

import base64
import csv
import io
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import h5py
import lmdb
import msgpack
import msgpack_numpy
import numpy as np
import torch


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

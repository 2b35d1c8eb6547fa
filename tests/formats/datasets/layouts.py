"""Small data sets in their published layouts, made of the same pictures and captions."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from formats import datasets, locators
from formats.datasets.opened import Data
from formats.datasets.truth import Truths
from formats.lists.bad import Bad
from formats.lists.columns import ListColumns
from formats.lists.urls import Pair
from formats.pictures import Sources, open_root
from tests.stages.download.hostile import jpeg

CAPTIONS = (
    ("a red car", "a car that is red"),
    ("two dogs", 'NaN, "007" and null stay text'),
    ("ein Haus\u2028am See", "e\u0301tage \u05e9\u05dc\u05d5\u05dd"),
    ("x" * 10_000, "007"),
)


@cache
def picture(number: int) -> bytes:
    """A JPEG, another for each number."""
    return jpeg(40 + number, 30, seed=number)


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def write_pictures(folder: Path, names: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        (folder / name).write_bytes(picture(number))


def write_tar(path: Path, members: Sequence[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, body in members:
            facts = tarfile.TarInfo(name)
            facts.size = len(body)
            tar.addfile(facts, io.BytesIO(body))


def read(
    place: Path | str,
    name: str | None = None,
    truths: Truths | None = None,
    pictures: Path | None = None,
    **columns: Any,
) -> tuple[list[Pair], list[Bad]]:
    """The rows and bad rows of a data set. Its format is found by looking if none is named."""
    data = Data(str(place), "s", open_root(str(pictures or place)), ListColumns(**columns), truths)
    found = [row for *_, row in datasets.read(name or datasets.detect(data)[0], data)]
    if truths:
        truths.close()
    return [row for row in found if isinstance(row, Pair)], [row for row in found if isinstance(row, Bad)]


def bodies(folder: Path | str, rows: Sequence[Pair]) -> list[bytes | str]:
    """The picture of each row, or why there is none."""
    sources = Sources({"s": str(folder)})
    asked = [place for row in rows if (place := locators.parse(row.url, {"s"})) is not None]
    assert len(asked) == len(rows)
    found = {n: body if isinstance(body, bytes) else str(body) for n, body in sources.read(asked)}
    sources.close()
    return [found[number] for number in range(len(rows))]


def texts(rows: Sequence[Pair]) -> list[tuple[str | None, ...]]:
    return [tuple(caption["text"] for caption in row.captions) for row in rows]


def coco(folder: Path, without: Mapping[str, Any] | None = None) -> None:
    """captions_val2017.json and instances_val2017.json, with the fields that the real ones have."""
    names = [f"{number:012d}.jpg" for number in range(len(CAPTIONS))]
    write_pictures(folder / "val2017", names)
    images = [
        {"id": 100 + n, "file_name": name, "license": 1 + n % 2, "width": 40 + n, "height": 30,
         "coco_url": f"http://images.cocodataset.org/val2017/{name}", "date_captured": "2013-11-14 17:02:52",
         "flickr_url": f"http://farm7.staticflickr.com/{n}.jpg"}
        for n, name in enumerate(names)
    ]  # fmt: skip
    licences = [{"id": 1, "name": "BY", "url": "http://by/"}, {"id": 2, "name": "BY-SA", "url": "http://by-sa/"}]
    head = {"info": {"year": 2017, "version": "1.0"}, "licenses": licences, "images": images}
    each = [(100 + n, caption) for n, captions in enumerate(CAPTIONS) for caption in captions]
    each = each[::2] + each[1::2]  # an image's captions do not stand together in COCO
    captions = [{"image_id": image, "id": n, "caption": caption} for n, (image, caption) in enumerate(each)]
    boxes = [
        {"image_id": 100, "id": 1, "category_id": 18, "bbox": [1.5, 2, 10, 20], "iscrowd": 0, "area": 200,
         "segmentation": [[1.5, 2, 11.5, 2, 11.5, 22]]},
        {"image_id": 100, "id": 2, "category_id": 3, "bbox": [0, 0, 5, 5], "iscrowd": 1, "area": 25,
         "segmentation": {"counts": [1], "size": [30, 40]}},
        {"image_id": 102, "id": 3, "category_id": 3, "bbox": [4, 5, 6, 7], "iscrowd": 0, "area": 42},
    ]  # fmt: skip
    kinds = [{"id": 3, "name": "car", "supercategory": "vehicle"}, {"id": 18, "name": "dog", "supercategory": "animal"}]
    write_json(folder / "annotations/captions_val2017.json", {**head, "annotations": captions, **(without or {})})
    write_json(folder / "annotations/instances_val2017.json", {**head, "annotations": boxes, "categories": kinds})


def karpathy(folder: Path) -> None:
    """dataset_coco.json."""
    splits, images = ("train", "restval", "val", "test"), []
    for number, captions in enumerate(CAPTIONS):
        place, name = "val2014" if number else "train2014", f"COCO_{number:012d}.jpg"
        (folder / place).mkdir(parents=True, exist_ok=True)
        (folder / place / name).write_bytes(picture(number))
        said = [{"tokens": text.split(), "raw": text, "imgid": number, "sentid": n} for n, text in enumerate(captions)]
        images.append({"filepath": place, "sentids": [0, 1], "filename": name, "imgid": number,
                       "split": splits[number], "sentences": said, "cocoid": 500 + number})  # fmt: skip
    write_json(folder / "dataset_coco.json", {"images": images, "dataset": "coco"})

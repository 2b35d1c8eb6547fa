"""Files in the structure that their authors publish, made by us: what is read of them, and what is said of wrong ones.

Structures: github.com/lichengunc/refer (refer.py), github.com/lil-lab/nlvr, and the pages of Winoground and SugarCrepe.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation import examples, records
from evaluation.gallery import Gallery, open_gallery
from evaluation.referring import Published
from pairloom.errors import ConfigError, InputError
from schemas.shards import SHARDS
from systems import checkpoints as saved
from tests.building import training_shard, write_table
from tests.evaluation.scenes import METADATA, row

PHOTO = "COCO_train2014_000000581857"
NLVR2 = ("dev-850-0-img0", "dev-850-0-img1")


@pytest.fixture(scope="module")
def gallery(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    """Three pictures that are called as COCO's and NLVR2's."""
    names = (PHOTO, *NLVR2)
    rows = [row(n) | {"url": f"http://sample.invalid/{name}.png"} for n, name in enumerate(names)]
    table = training_shard(rows, "test", METADATA)
    folder = write_table(tmp_path_factory.mktemp("named"), SHARDS, {"test-00000": table}, indexed=True)
    learner, tokenizer = saved.load(checkpoints["uniter"])
    return open_gallery(folder, "test", learner.recipe, tokenizer, beside=("url",))


def refs() -> list[dict[str, Any]]:
    """refs(unc).p, an entry of each of two splits."""
    texts = ["the lady with the blue shirt", "lady with back to us"]
    sentences = [{"tokens": s.split(), "raw": s.title(), "sent_id": n, "sent": s} for n, s in enumerate(texts)]
    return [
        {
            "sent_ids": [0, 1], "file_name": f"{PHOTO}_16.jpg", "ann_id": 1719310, "ref_id": 0, "image_id": 581857,
            "split": split, "category_id": 1,
            "sentences": sentences,
        }
        for split in ("train", "testA")
    ]  # fmt: skip


def instances() -> dict[str, Any]:
    image = {
        "license": 1, "file_name": f"{PHOTO}.jpg", "coco_url": "http://sample.invalid", "height": 480, "width": 640,
        "date_captured": "2013-11-16", "flickr_url": "http://sample.invalid", "id": 581857,
    }  # fmt: skip
    box = {
        "segmentation": [[103.93, 299.99, 238.15, 477.4]], "area": 1.0, "iscrowd": 0, "image_id": 581857,
        "bbox": [103.93, 299.99, 134.22, 177.42], "category_id": 1, "id": 1719310,
    }  # fmt: skip
    people = {"supercategory": "person", "id": 1, "name": "person"}
    return {"info": {}, "licenses": [], "images": [image], "annotations": [box], "categories": [people]}


def write_refcoco(folder: Path, given: Any = None, boxes: Any = None, protocol: int = 2) -> Path:
    """Protocol 2 is that of Python 2, in which the authors wrote theirs."""
    (folder / "instances.json").write_text(json.dumps(instances() if boxes is None else boxes), encoding="utf-8")
    path = folder / "refs(unc).p"
    path.write_bytes(pickle.dumps(refs() if given is None else given, protocol))
    return path


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_refcocos_pickle_gives_each_sentence_with_its_box(gallery: Gallery, tmp_path: Path, protocol: int) -> None:
    path = write_refcoco(tmp_path, protocol=protocol)
    found = examples.of_refcoco(gallery, path, "url", Published(part="testA"))
    assert [one.text for one in found] == ["the lady with the blue shirt", "lady with back to us"]
    wanted = [103.93 / 640, 299.99 / 480, (103.93 + 134.22) / 640, (299.99 + 177.42) / 480]  # of x, y, width, height
    for one in found:
        assert one.images == (0,)
        np.testing.assert_allclose(one.targets["box"], wanted, rtol=1e-6)
    moved = tmp_path / "elsewhere.json"
    (tmp_path / "instances.json").rename(moved)
    again = examples.of_refcoco(gallery, path, "url", Published(moved, "testA"))
    assert [one.text for one in again] == [one.text for one in found]


def changed(entry: int, **values: Any) -> list[dict[str, Any]]:
    given = refs()
    given[entry] = {key: value for key, value in (given[entry] | values).items() if value is not None}
    return given


class Program:
    """What a pickle can hide."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (print, ("it ran",))


WRONG_REFS: dict[str, tuple[Any, Any, str, str]] = {
    "no split": (changed(1, split=None), None, "it has no split", "entry 1"),
    "no annotation": (changed(1, ann_id=7), None, "ann_id 7 is not in", "refcoco+"),
    "no picture": (changed(1, image_id=7), None, "image_id 7 is not in", "entry 1"),
    "an empty sentence": (changed(1, sentences=[{"sent": " "}]), None, "no text text", "entry 1, sentence 0"),
    "no list": ({"refs": []}, None, "not a list of references", "refs(unc).p"),
    "a program": ([Program()], None, "no pickle of plain data: it asks for", "refs(unc).p"),
    "no boxes": (None, {"images": []}, "it has no list annotations", "instances.json"),
    "a box of three": (
        None, instances() | {"annotations": [{"id": 1719310, "bbox": [1, 2]}]}, "bbox is [1, 2]", "write 4 numbers"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_REFS)
def test_what_is_wrong_in_refcoco_is_named_with_file_entry_and_cure(
    case: str, gallery: Gallery, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, boxes, *messages = WRONG_REFS[case]
    path = write_refcoco(tmp_path, given, boxes)
    with pytest.raises(InputError) as caught:
        examples.of_refcoco(gallery, path, "url", Published(part="testA"))
    for message in (*messages, str(tmp_path), "fix:"):
        assert message in str(caught.value)
    assert "it ran" not in capsys.readouterr().out


@pytest.mark.parametrize("part", [None, "testB"])
def test_the_parts_of_a_pickle_are_said_where_none_or_another_is_named(
    part: str | None, gallery: Gallery, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="the file has testA, train"):
        examples.of_refcoco(gallery, write_refcoco(tmp_path), "url", Published(part=part))


def nlvr2(**values: Any) -> dict[str, Any]:
    """A line of dev.json."""
    return {
        "validation": {"100": "True"}, "sentence": "The left image shows a dog.", "left_url": "http://l.invalid/a.jpg",
        "writer": "7", "label": "True", "right_url": "http://r.invalid/b.jpg", "synset": "dog", "query": "dogs",
        "identifier": "dev-850-0-1", "extra_validations": {}, "directory": 3,
    } | values  # fmt: skip


def test_nlvr2s_lines_find_both_pictures_by_the_identifier(gallery: Gallery, tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    lines = [nlvr2(), nlvr2(identifier="dev-850-0-2", label="False")]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    found = examples.of_nlvr2(gallery, path, "url")
    assert [(one.images, int(one.targets["true"]), one.name) for one in found] == [
        ((1, 2), 1, "dev-850-0-1"), ((1, 2), 0, "dev-850-0-2"),
    ]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, [nlvr2(), nlvr2(label="Maybe")])), encoding="utf-8")
    with pytest.raises(InputError, match=r"label is 'Maybe'(.|\n)*dev\.json, line 2(.|\n)*write True or False"):
        examples.of_nlvr2(gallery, path, "url")


def test_winogrounds_and_sugarcrepes_files_are_read_as_published(tmp_path: Path) -> None:
    quad = {
        "id": 0, "image_0": "ex_0_img_0", "image_1": "ex_0_img_1", "caption_0": "an old person kisses a young person",
        "caption_1": "a young person kisses an old person", "tag": "Adjective-Age", "secondary_tag": "",
        "num_main_preds": 1, "collapsed_tag": "Object",
    }  # fmt: skip
    path = tmp_path / "examples.jsonl"
    path.write_text(json.dumps(quad) + "\n", encoding="utf-8")
    (found,) = records.quads(path)
    assert (found.images, found.tag) == (("ex_0_img_0", "ex_0_img_1"), "Object")
    assert found.captions == (quad["caption_0"], quad["caption_1"])
    pair = {"filename": "000000085329.jpg", "caption": "A dog on a cat.", "negative_caption": "A cat on a dog."}
    path = tmp_path / "swap_obj.json"
    path.write_text(json.dumps({"0": pair, "1": pair | {"negative_caption": ""}}), encoding="utf-8")
    with pytest.raises(InputError, match=r"no text negative_caption(.|\n)*swap_obj\.json, entry 1(.|\n)*fix"):
        records.pairs(path)
    path.write_text(json.dumps({"0": pair}), encoding="utf-8")
    (right,) = records.pairs(path)
    assert (right.image, right.right, right.wrong) == (pair["filename"], pair["caption"], pair["negative_caption"])

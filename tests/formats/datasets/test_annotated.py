"""COCO, Karpathy's split, Flickr30k, Visual Genome: each as pycocotools, json or csv reads it."""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis.strategies import dictionaries, floats, integers, lists, none, recursive, text
from pycocotools.coco import COCO

from formats.datasets.streams import items
from formats.datasets.truth import Truths
from pairloom.errors import InputError
from tests.formats.datasets.layouts import (
    CAPTIONS,
    bodies,
    coco,
    karpathy,
    picture,
    read,
    texts,
    write_json,
    write_pictures,
)


def test_coco_is_what_pycocotools_reads(tmp_path: Path) -> None:
    coco(tmp_path / "coco")
    rows, bad = read(tmp_path / "coco", truths=Truths(tmp_path / "truth.parquet"))
    annotations = tmp_path / "coco/annotations"
    with contextlib.redirect_stdout(io.StringIO()):
        captions, things = COCO(annotations / "captions_val2017.json"), COCO(annotations / "instances_val2017.json")
    assert bad == []
    assert len(rows) == len(captions.imgs)
    for row in rows:
        image = captions.loadImgs(int(row.extra["coco_id"]))[0]
        assert row.url == f"s:val2017/{image['file_name']}"
        assert [c["text"] for c in row.captions] == [a["caption"] for a in captions.imgToAnns[image["id"]]]
        licence = captions.dataset["licenses"][image["license"] - 1]
        assert (row.licence, row.extra["licence_url"]) == (licence["name"], licence["url"])
        assert (row.extra["split"], row.extra["coco_url"], row.source) == ("val", image["coco_url"], "s 2017")
    assert bodies(tmp_path / "coco", rows) == [picture(number) for number in range(len(CAPTIONS))]
    truth = {row["url"]: row["things"] for row in pq.read_table(tmp_path / "truth.parquet").to_pylist()}
    expected = {
        f"s:val2017/{things.imgs[image]['file_name']}": [
            (things.cats[a["category_id"]]["name"], a["bbox"]) for a in found if not a["iscrowd"]
        ]
        for image, found in things.imgToAnns.items()
    }
    as_coco = {
        url: [(t["name"], [*t["box"][:2], t["box"][2] - t["box"][0], t["box"][3] - t["box"][1]]) for t in found]
        for url, found in truth.items()
    }
    assert as_coco == expected


def test_coco_by_the_file_of_captions_with_the_pictures_elsewhere(tmp_path: Path) -> None:
    coco(tmp_path / "coco")
    (tmp_path / "coco/val2017").rename(tmp_path / "pictures")
    rows, _ = read(tmp_path / "coco/annotations/captions_val2017.json", pictures=tmp_path / "pictures")
    assert bodies(tmp_path / "pictures", rows) == [picture(number) for number in range(len(CAPTIONS))]


def test_a_caption_of_no_image_is_named_and_an_image_without_captions_stays(tmp_path: Path) -> None:
    stray = [{"image_id": 7, "id": 1, "caption": "of nothing"}, {"image_id": 101, "id": 2, "caption": None}]
    coco(tmp_path, {"annotations": stray})
    rows, bad = read(tmp_path)
    assert texts(rows) == [()] * len(CAPTIONS)
    assert [(one.said, json.loads(one.text)) for one in bad] == [
        ("the caption's image_id 7 is in none of the images", stray[0])
    ]


def test_a_missing_picture_keeps_its_row_and_its_place(tmp_path: Path) -> None:
    coco(tmp_path)
    (tmp_path / "val2017/000000000002.jpg").unlink()
    rows, _ = read(tmp_path)
    assert rows[2].url == "s:val2017/000000000002.jpg"
    assert "not-found" in str(bodies(tmp_path, rows)[2])


def test_karpathy_keeps_split_and_captions(tmp_path: Path) -> None:
    karpathy(tmp_path)
    rows, bad = read(tmp_path)
    assert bad == []
    images = json.loads((tmp_path / "dataset_coco.json").read_text())["images"]
    assert [row.extra["split"] for row in rows] == [image["split"] for image in images]
    assert [row.extra["coco_id"] for row in rows] == [str(image["cocoid"]) for image in images]
    assert texts(rows) == [tuple(said["raw"] for said in image["sentences"]) for image in images]
    assert bodies(tmp_path, rows) == [picture(number) for number in range(len(CAPTIONS))]


def test_flickr30k_in_both_of_its_files(tmp_path: Path) -> None:
    names = ["1000092795.jpg", "2199200615.jpg"]
    write_pictures(tmp_path / "flickr30k-images", names)
    said = [["Two men .", 'A "quoted" | one .'], ["A dog runs .", "It is # 1 ."]]
    lines = [f"{name}#{n}\t{text}" for name, each in zip(names, said, strict=True) for n, text in enumerate(each)]
    (tmp_path / "results_20130124.token").write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows, bad = read(tmp_path)
    assert (texts(rows), bad) == ([tuple(each) for each in said], [])
    assert bodies(tmp_path, rows) == [picture(0), picture(1)]
    (tmp_path / "results_20130124.token").unlink()
    lines = ["image_name| comment_number| comment", f"{names[0]}| 0| Two men .", f"{names[0]}| 1| One .",
             f"{names[1]}| 4   A dog runs across the grass .", "no row of it"]  # fmt: skip
    (tmp_path / "results.csv").write_text("\n".join(lines), encoding="utf-8")
    rows, bad = read(tmp_path)
    assert texts(rows) == [("Two men .", "One ."), ("A dog runs across the grass .",)]
    assert [one.text for one in bad] == ["no row of it"]


def test_visual_genome_gives_regions_as_captions_and_objects_as_truth(tmp_path: Path) -> None:
    write_pictures(tmp_path / "VG_100K_2", ["1.jpg", "2.jpg", "3.jpg"])
    url = "https://cs.stanford.edu/people/rak248/VG_100K_2/{}.jpg"
    images = [{"image_id": n, "url": url.format(n), "width": 40, "height": 30, "coco_id": None, "flickr_id": None}
              for n in (1, 2, 3)]  # fmt: skip
    region = {"width": 5, "height": 6, "x": 1, "y": 2}
    regions = [  # not in the order of the images, of which one has none
        {"id": 2, "regions": [{**region, "region_id": 9, "image_id": 2, "phrase": "the sky"}]},
        {"id": 1, "regions": [{**region, "region_id": 1, "image_id": 1, "phrase": "a clock"},
                              {**region, "region_id": 2, "image_id": 1, "phrase": ""},
                              {**region, "region_id": 3, "image_id": 1, "phrase": "a clock", "x": 9},
                              {**region, "region_id": 4, "image_id": 1, "phrase": "green wall", "x": 0}]},
        {"id": 77, "regions": []},
    ]  # fmt: skip
    thing = {"object_id": 5, "names": ["clock"], "synsets": ["clock.n.01"], "x": 1, "y": 2, "w": 3, "h": 4}
    write_json(tmp_path / "image_data.json", images)
    write_json(tmp_path / "region_descriptions.json", regions)
    write_json(tmp_path / "objects.json", [{"image_id": 1, "objects": [thing]}])
    write_json(tmp_path / "attributes.json", [{"image_id": 1, "attributes": [{**thing, "attributes": ["green"]}]}])
    rows, bad = read(tmp_path, truths=Truths(tmp_path / "out/truth.parquet"))
    assert texts(rows) == [("a clock", "green wall"), ("the sky",), ()]
    assert {one["kind"] for row in rows for one in row.captions} == {"region"}
    assert json.loads(rows[0].extra["region_boxes"]) == [[1, 2, 6, 8], [0, 2, 5, 8]]
    assert [one.said for one in bad] == ["the regions of image 77 belong to no image of image_data"]
    assert bodies(tmp_path, rows) == [picture(0), picture(1), picture(2)]
    (truth,) = pq.read_table(tmp_path / "out/truth.parquet").to_pylist()
    (found,) = truth["things"]
    assert (truth["url"], found["name"], found["attributes"], found["box"]) == (
        rows[0].url,
        "clock",
        ["green"],
        [1, 2, 4, 6],
    )


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("coco", {"captions_val2017.json": {"images": [1, 2], "annotations": []}}),
        ("coco", {"captions_val2017.json": {"images": [{"id": 1}], "annotations": [None]}}),
        ("coco", {"captions_val2017.json": "text"}),
        ("karpathy", {"dataset_coco.json": {"images": [{"filename": "1.jpg", "sentences": [7]}]}}),
        ("karpathy", {"dataset_coco.json": {"images": "none"}}),
        ("vg", {"image_data.json": [[]], "region_descriptions.json": []}),
        ("vg", {"image_data.json": [{"image_id": 1}], "region_descriptions.json": [{"id": 1, "regions": [3]}]}),
        ("hf", {"state.json": {"_data_files": [{}]}}),
        ("sbu", {"sbu.json": {"image_urls": 1, "captions": []}}),
    ],
)
def test_other_values_than_the_format_has_are_refused_without_a_traceback(
    tmp_path: Path, name: str, files: dict[str, object]
) -> None:
    for file, value in files.items():
        write_json(tmp_path / file, value)
    with pytest.raises(InputError):
        read(tmp_path, name)


VALUES = recursive(
    none() | integers() | floats(allow_nan=False) | text(), lambda inner: lists(inner) | dictionaries(text(), inner)
)


@given(value=dictionaries(text(), VALUES) | lists(VALUES), indent=integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_json_in_pieces_is_json_at_once(value: object, indent: int) -> None:
    stream = io.StringIO(json.dumps(value, indent=indent or None))
    found = list(items(stream, "x"))
    if isinstance(value, list):
        assert found == [("", item) for item in value]
    else:
        assert isinstance(value, dict)
        whole = [(key, item) for key, each in value.items() for item in (each if isinstance(each, list) else [each])]
        assert found == whole


@pytest.mark.parametrize("broken", ["", "[1, 2", '{"a": [1, }', '{"a" 1}', "[1] x"[:2], "nonsense", '{"a": 1'])
def test_json_that_ends_early_is_refused_with_its_place(broken: str) -> None:
    with pytest.raises(InputError, match="character"):
        Counter(items(io.StringIO(broken), "file.json"))

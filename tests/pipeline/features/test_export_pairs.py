"""Exports of pairs, opened by those that train from them: webdataset, datasets, pycocotools, pandas, pyarrow."""

from __future__ import annotations

import csv
import io
import json
import pickle
import warnings
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from formats.exports.settings import Settings
from pairloom.extra import as_dict
from pairloom.store.folder import open_folder
from pipeline.cli import main
from pipeline.features import pieces
from pipeline.features.kinds import PairKind
from pipeline.features.state import State
from schemas.shards import SHARDS
from stages.stand_ins import notes_on
from tests.building import training_shard, write_table
from tests.pipeline.features.lists import killed, refused, run
from tests.pipeline.features.pairs import CLASSES, METADATA, TEXTS, row, same_picture

LANCE = pytest.param("lance", marks=pytest.mark.skipif(find_spec("lance") is None, reason="pylance is not installed"))
# Of which two exports have the same bytes.
STABLE = ("arrow-vilt", "coco", "fiftyone", "hf", "litdata", "mds", "open-clip-csv", "webdataset")
LAYOUTS = (*STABLE, LANCE)
OF_REGIONS = (
    *("boxes", "class_ids", "class_scores", "attribute_ids", "attribute_scores"),
    *("features", "prob_ids", "prob_values"),
)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_pairs_go_out_and_are_read_back(layout: str, shards: Path, tmp_path: Path) -> None:
    said = run("export", shards, "--as", layout, "--out", tmp_path / "out")
    assert said == {
        "folders": {str(tmp_path / "out/train"): 9, str(tmp_path / "out/val"): 2},
        "checked": 11, "left_out": 0, "resumed": 0,
    }  # fmt: skip
    listed = [line.split("  ")[1] for line in (tmp_path / "out/export.sha256").read_text().splitlines()]
    there = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert there - set(listed) == {"export.sha256", ".locks/export"}


def test_webdataset_as_open_clip_reads_it(shards: Path, tmp_path: Path) -> None:
    import webdataset as wds

    run("export", shards, "--as", "webdataset", "--out", tmp_path, "--shard-bytes", "20000", "--with-features")
    tars = sorted(map(str, (tmp_path / "train").glob("*.tar")))
    assert len(tars) > 1
    with warnings.catch_warnings(action="ignore"):
        dataset = wds.WebDataset(tars, shardshuffle=False).decode("pilrgb").rename(image="jpg;png", text="txt")
        found = list(dataset)
    assert len(found) == 9
    for number, one in enumerate(found):
        assert same_picture(one["image"], number)
        assert one["text"] == TEXTS[0]
        assert [said["text"] for said in one["json"]["captions"]] == TEXTS[: 1 + number % 3]
        assert one["json"]["key"] == f"val2014/COCO_{number:06d}"
        assert one["json"]["url"] == f"http://h/{number}"
        assert np.array_equal(one["features.npy"], np.arange(8).reshape(2, 4) + number)
        assert one["boxes.npy"].shape == (2, 4)
    counts = json.loads((tmp_path / "train/sizes.json").read_text())
    assert sum(counts.values()) == 9


def test_energons_description_and_the_places_of_its_samples(shards: Path, tmp_path: Path) -> None:
    import tarfile

    run("export", shards, "--as", "webdataset", "--out", tmp_path, "--shard-bytes", "20000", "--energon")
    counts = json.loads((tmp_path / ".nv-meta/.info.json").read_text())["shard_counts"]
    parts = yaml.safe_load((tmp_path / ".nv-meta/split.yaml").read_text())["split_parts"]
    assert sorted(counts) == sorted(parts["train"] + parts["val"])
    assert sum(counts[name] for name in parts["train"]) == 9
    for name, count in counts.items():
        starts = np.fromfile(tmp_path / f"{name}.idx", "<u8").tolist()
        with tarfile.open(tmp_path / name) as tar:
            members = tar.getmembers()
        first = [one.offset for one in members if one.name.endswith((".jpg", ".png"))]
        assert starts[:-1] == first
        assert len(first) == count
        assert starts[-1] > first[-1]


def test_datasets_opens_the_folder_with_pictures_and_splits(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    run("export", shards, "--as", "hf", "--out", tmp_path / "out", "--with-features", "--name", "Made pairs")
    with warnings.catch_warnings(action="ignore"):
        found = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
        assert {name: len(split) for name, split in found.items()} == {"train": 9, "validation": 2}
        for number, one in enumerate(found["train"]):
            assert same_picture(one["image"], number)
            assert one["captions"] == TEXTS[: 1 + number % 3]
            assert one["key"] == f"val2014/COCO_{number:06d}"
            assert one["classes"] == [CLASSES[number % 2], "cat"]
            assert np.array_equal(one["features"], np.arange(8).reshape(2, 4) + number)
            assert np.allclose(one["boxes"][0], np.array([1, 2, 30, 40]) + number)
        streamed = datasets.load_dataset(str(tmp_path / "out"), split="validation", streaming=True)
        assert [one["key"] for one in streamed] == ["val2014/COCO_000009", "val2014/COCO_000010"]
    head = yaml.safe_load((tmp_path / "out/README.md").read_text().split("---\n")[1])
    assert head["license"] == ["cc0-1.0"]
    assert head["dataset_info"]["splits"][0]["num_examples"] == 9
    names = [one["name"] for one in head["dataset_info"]["features"]]
    assert names == list(found["train"].features)


def test_arrow_as_vilt_reads_it(shards: Path, tmp_path: Path) -> None:
    run("export", shards, "--as", "arrow-vilt", "--out", tmp_path, "--name", "made")
    table = pa.ipc.RecordBatchFileReader(pa.memory_map(str(tmp_path / "train/made_train.arrow"), "r")).read_all()
    assert len(table) == 9
    captions = table["caption"].to_pandas().tolist()
    for number in range(9):
        assert same_picture(Image.open(io.BytesIO(table["image"][number].as_py())), number)
        assert list(captions[number]) == TEXTS[: 1 + number % 3]
        assert table["image_id"][number].as_py() == f"val2014/COCO_{number:06d}"
        assert table["split"][number].as_py() == "train"


def test_pycocotools_reads_captions_and_boxes(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pycocotools.coco import COCO

    run("export", shards, "--as", "coco", "--out", tmp_path)
    captions, objects = (COCO(tmp_path / "train" / f"{name}.json") for name in ("captions", "instances"))
    assert sorted(captions.getImgIds()) == list(range(9))
    for number in range(9):
        (image,) = captions.loadImgs([number])
        assert same_picture(Image.open(tmp_path / "train/images" / image["file_name"]), number)
        said = [one["caption"] for one in captions.loadAnns(captions.getAnnIds(imgIds=[number]))]
        assert said == TEXTS[: 1 + number % 3]
        found = objects.loadAnns(objects.getAnnIds(imgIds=[number]))
        assert [one["bbox"] for one in found] == [[1 + number, 2 + number, 29, 38], [5 + number, 6 + number, 15, 15.5]]
        names = [objects.loadCats([one["category_id"]])[0]["name"] for one in found]
        assert names == [CLASSES[number % 2], "cat"]
        assert np.allclose([one["score"] for one in found], [0.9, 0.5])


def test_open_clips_list(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("export", shards, "--as", "open-clip-csv", "--out", "out")
    import pandas as pd

    frame = pd.read_csv("out/train/pairs.csv", sep="\t")  # as open_clip_train/data.py: filepath and title
    assert len(frame) == sum(1 + number % 3 for number in range(9))
    texts = [" ".join(text.split()) for number in range(9) for text in TEXTS[: 1 + number % 3]]
    assert frame["title"].tolist() == texts
    numbers = [number for number in range(9) for _ in range(1 + number % 3)]
    assert all(same_picture(Image.open(path), n) for path, n in zip(frame["filepath"], numbers, strict=True))
    with Path("out/train/pairs.csv").open(newline="", encoding="utf-8") as file:
        assert [line[1] for line in csv.reader(file, delimiter="\t")][1:] == texts


@pytest.mark.parametrize("layout", STABLE)
def test_a_killed_export_goes_on_to_the_same_files(
    layout: str, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # open_clip's list has paths from here
    options = ("--shard-bytes", "20000")
    killed(1, "export", shards, "--as", layout, "--out", "out", *options)
    said = run("export", shards, "--as", layout, "--out", "out", *options)
    assert (said["checked"], said["resumed"]) == (11, 1)
    Path("out").rename("first")
    run("export", shards, "--as", layout, "--out", "out", *options)
    assert Path("first/export.sha256").read_text() == Path("out/export.sha256").read_text()


@pytest.mark.parametrize("layout", [*STABLE, "volta-h5", "vilbert-lmdb", "lxmert-tsv"])
def test_an_export_that_ends_before_it_notes_a_finished_split_goes_on(
    layout: str, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def ending(state: State) -> None:
        if state.finished:
            raise KeyboardInterrupt
        save(state)

    save = State.save
    with monkeypatch.context() as patch:
        patch.setattr(State, "save", ending)
        assert main(["export", str(shards), "--as", layout, "--out", "out", "--quiet"]) == 130
    assert run("export", shards, "--as", layout, "--out", "out")["checked"] == 11
    hidden = [path for path in Path("out").rglob(".*") if path.is_file()]
    assert [path.name for path in hidden] == []
    Path("out").rename("first")
    run("export", shards, "--as", layout, "--out", "out")
    assert Path("first/export.sha256").read_text() == Path("out/export.sha256").read_text() or layout == "vilbert-lmdb"


@pytest.mark.parametrize("layout", ["hf", "litdata", "mds", "webdataset"])
def test_each_file_is_read_back_alone_by_any_process(layout: str, shards: Path, tmp_path: Path) -> None:
    """Without the processes: what goes to them and comes back."""
    run("export", shards, "--as", layout, "--out", tmp_path, "--shard-bytes", "1500")
    kind = PairKind(layout, Settings(), [])
    parts = kind.parts(tmp_path / "train")
    assert len(parts) > 2
    seen = [one for part in parts for one in pieces.back(pickle.loads(pickle.dumps(kind)), part)]
    assert pickle.loads(pickle.dumps(seen)) == seen
    assert sorted(one.key for one in seen) == [f"val2014/COCO_{number:06d}" for number in range(9)]


def test_pairs_without_pictures_have_no_place_in_a_layout_of_pictures(shards: Path, tmp_path: Path) -> None:

    rows = [row(number) | ({"image": b"", "format": None} if number != 2 else {}) for number in range(3)]
    some = write_table(
        tmp_path / "some", SHARDS, {"train-00000": training_shard(rows, "train", METADATA)}, indexed=True
    )
    said = run("export", some, "--as", "arrow-vilt", "--out", tmp_path / "a")
    assert (said["checked"], said["left_out"]) == (1, 2)
    none = [one | {"image": b""} for one in rows]
    bare = write_table(
        tmp_path / "bare", SHARDS, {"train-00000": training_shard(none, "train", METADATA)}, indexed=True
    )
    assert "arrow-vilt holds pictures" in refused("export", bare, "--as", "arrow-vilt", "--out", tmp_path / "b")
    assert run("export", bare, "--as", "hf", "--out", tmp_path / "c")["checked"] == 3


@pytest.fixture
def without_regions(tmp_path: Path) -> Path:
    """Three pairs as `shards.regions: false` makes them."""
    rows = [row(number) | {"num_regions": 0, **dict.fromkeys(OF_REGIONS, np.zeros((0, 0)))} for number in range(3)]
    notes = METADATA | notes_on(["regions", "tags"])
    shards = {"train-00000": training_shard(rows, "train", notes)}
    return write_table(tmp_path / "bare", SHARDS, shards, indexed=True)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pairs_without_regions_go_out(layout: str, without_regions: Path, tmp_path: Path) -> None:
    assert run("export", without_regions, "--as", layout, "--out", tmp_path / "out")["checked"] == 3
    assert "were made without" in refused("export", without_regions, "--as", "lxmert-tsv", "--out", tmp_path / "b")


def test_a_folder_in_cocos_layout_comes_in_again_with_its_splits(shards: Path, tmp_path: Path) -> None:
    run("export", shards, "--as", "coco", "--out", tmp_path / "coco")
    run("import", tmp_path / "coco", "--out", tmp_path / "again")
    urls = pa.concat_tables(table for _, table in open_folder(tmp_path / "again/urls").tables(["captions", "extra"]))
    splits = Counter(as_dict(extra)["split"] for extra in urls["extra"].to_pylist())
    assert splits == {"train": 9, "val": 2}
    texts = Counter(caption["text"] for captions in urls["captions"].to_pylist() for caption in captions)
    assert texts == Counter(text for number in range(11) for text in TEXTS[: 1 + number % 3])
    truth = pq.read_table(tmp_path / "again/sample/truth.parquet")
    assert truth.num_rows
    assert open_folder(tmp_path / "again/download").rows == 11


def test_features_of_these_shards_go_out_too(shards: Path, tmp_path: Path) -> None:
    run("export", shards, "--as", "lxmert-tsv", "--out", tmp_path)
    assert open_folder(shards).rows == 11
    assert (tmp_path / "train/objects_vocab.txt").read_text() == "dog\ncat\n"

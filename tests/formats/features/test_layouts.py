"""Every layout of features: what is written is read back, and by readers as the layouts' own repositories have them."""

from __future__ import annotations

import json
import os
import pickle
import signal
from pathlib import Path
from typing import Any

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
from tests.formats.features.readers import READERS

LAYOUTS = [name for name in features.names() if name != "grid-npy"]
RECORDS = [made.record(f"COCO_train2014_{number:012d}", 1 + number % 4, number) for number in range(7)]
# What file names, HDF5 groups and LMDB keys can all be. A key that a layout can't hold is refused (below).
KEYS = st.text(st.characters(codec="utf-8", exclude_characters="/\\\0", exclude_categories=("Cc", "Cs", "Zl", "Zp")))
KEYS = KEYS.filter(lambda key: key.strip(" .") == key and key not in ("", "keys", "__keys__", "img_id", "image_id"))
KEYS = KEYS.filter(lambda key: len(key.encode()) < 80 and not key.startswith('"') and not key.endswith("_info"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_written_is_read_back(layout: str, tmp_path: Path) -> None:
    found = made.good(layout, made.write(layout, tmp_path, RECORDS))
    assert sorted(found) == [one.key for one in RECORDS]
    for one in RECORDS:
        made.assert_same(layout, found[one.key], one)


@pytest.mark.parametrize(
    "layout", ["lxmert-tsv", "vinvl-tsv", "oscar-tsv", "volta-h5", "uniter-npz", "detectron2-instances"]
)
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

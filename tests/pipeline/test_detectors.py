"""`pairloom detector`: from a published file to a check against what the original code wrote."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from pairloom.store.folder import open_folder
from pipeline.cli import main
from stages.regions.select import POLICIES
from tests.stages.regions.published import checkpoints, oracle
from tests.stages.regions.published.families import BUTD, FAMILIES, VINVL_X152, small
from tests.stages.regions.published.test_milvlg_d2 import extract_d2features
from tests.stages.regions.test_select import filter_results_peter

SIZES = ((150, 100), (96, 128))
VINVL_SEED = 4  # its best regions are suppressed in some classes


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a catalogue file, a caffemodel, vocabularies and pictures."""
    torch.set_num_threads(1)
    monkeypatch.setenv("PAIRLOOM_DETECTORS", str(tmp_path / "store"))
    sizes = small(BUTD)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(sizes.overrides(BUTD)))
    checkpoints.write(tmp_path / "net.caffemodel", BUTD, checkpoints.tensors(BUTD, sizes))
    (tmp_path / "objects_vocab.txt").write_text("\n".join(f"thing {i}" for i in range(sizes.classes)))
    (tmp_path / "attributes_vocab.txt").write_text("\n".join(f"kind {i}" for i in range(sizes.attributes)))
    (tmp_path / "pictures").mkdir()
    for number, size in enumerate(SIZES):
        coarse = np.random.default_rng(number).integers(0, 256, (6, 7, 3), np.uint8)
        picture = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
        picture.save(tmp_path / "pictures" / f"COCO_val2014_{number:012}.png")
    return tmp_path


def run(*words: object) -> int:
    return main(["detector", *map(str, words)])


def golden_row(picture: Path, number: int) -> str:
    """What BUTD's script writes for a picture, by the oracle's network and its rule in plain loops."""
    sizes = small(BUTD)
    with Image.open(picture) as opened:
        pixels = opened.convert("RGB")
    seen = oracle.see(pixels, BUTD, sizes, checkpoints.tensors(BUTD, sizes))
    boxes = seen.boxes * np.array([*seen.scale, *seen.scale])
    confidence = np.zeros(len(boxes))
    for scores in seen.probs.T:
        order = np.argsort(-scores, kind="stable")
        kept: list[int] = []
        for row in order:
            if all(oracle.overlap(boxes[row], boxes[better], 1) <= 0.3 for better in kept):
                kept.append(int(row))
                confidence[row] = max(confidence[row], scores[row])
    rows = np.flatnonzero(confidence >= 0.2)
    if len(rows) < 10:
        rows = np.argsort(-confidence, kind="stable")[:10]
    blobs = [base64.b64encode(np.asarray(v[rows], "<f4").tobytes()).decode() for v in (boxes, seen.features)]
    return "\t".join([str(number), str(pixels.width), str(pixels.height), str(len(rows)), *blobs])


def write_golden(folder: Path) -> Path:
    pictures = sorted((folder / "pictures").iterdir())
    (folder / "golden").mkdir(exist_ok=True)
    rows = [golden_row(path, number) for number, path in enumerate(pictures)]
    (folder / "golden" / "karpathy.tsv").write_text("\n".join(rows) + "\n")
    return folder / "golden"


def test_the_original_codes_regions_are_found_again(user: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("add", user / "tiny.yaml", user / "net.caffemodel", "--json") == 0
    added = json.loads(capsys.readouterr().out)
    assert added["named"]
    assert added["layout"] == "caffe"
    assert run("verify", user / "tiny.yaml") == 0
    capsys.readouterr()
    golden = write_golden(user)
    assert run("verify", user / "tiny.yaml", "--golden", golden, "--pictures", user / "pictures", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["agrees"]
    assert found["matched"] == found["regions"] >= 20
    assert {each["name"]: each["equal"] for each in found["columns"]} == {"rows": 1, "boxes": 1, "features": 1}
    assert all(each["largest"] < 1e-2 for each in found["columns"])


def vinvl_row(picture: Path) -> tuple[str, int]:
    """What VinVL's filter 1 keeps of a picture, as a line of ten columns, and how many labels are not the arg max."""
    sizes = small(VINVL_X152)
    weights = checkpoints.tensors(VINVL_X152, sizes, VINVL_SEED)
    with Image.open(picture) as opened:
        pixels = opened.convert("RGB")
    seen = oracle.see(pixels, VINVL_X152, sizes, weights)
    boxes = seen.boxes * np.array([*seen.scale, *seen.scale])
    rows, labels, scores = filter_results_peter(seen.boxes, seen.probs, POLICIES["vinvl-filter1"])
    chosen = torch.nn.functional.one_hot(torch.tensor(labels) + 1, sizes.classes + 1).float()
    attributes = oracle.attribute_probs(torch.from_numpy(seen.features[rows]).float(), chosen, VINVL_X152, weights)
    blobs = [(labels, "<i8"), (scores, "<f4"), (attributes.argmax(axis=1), "<i8"), (attributes.max(axis=1), "<f4")]
    last = [(boxes[rows], "<f4"), (seen.features[rows], "<f4")]
    cells = [base64.b64encode(np.asarray(values, kind).tobytes()).decode() for values, kind in blobs + last]
    facts = [picture.stem, str(pixels.height), str(pixels.width), *cells[:4], str(len(rows)), *cells[4:]]
    return "\t".join(facts), int((np.array(labels) != seen.probs[rows].argmax(axis=1)).sum())


def test_the_regions_of_vinvls_filter_are_found_again_with_their_labels(
    user: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (user / "vinvl.yaml").write_text(yaml.safe_dump(small(VINVL_X152).overrides(VINVL_X152)))
    weights = checkpoints.tensors(VINVL_X152, small(VINVL_X152), VINVL_SEED)
    checkpoints.write(user / "net.pth", VINVL_X152, weights)
    assert run("add", user / "vinvl.yaml", user / "net.pth") == 0
    lines = [vinvl_row(path) for path in sorted((user / "pictures").iterdir())]
    assert sum(others for _, others in lines) > 1  # else the test could not tell the two readings apart
    (user / "golden.tsv").write_text("\n".join(line for line, _ in lines) + "\n")
    capsys.readouterr()
    words = ["--golden", user / "golden.tsv", "--pictures", user / "pictures", "--device", "cpu", "--json"]
    assert run("verify", user / "vinvl.yaml", *words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["matched"] == found["regions"] >= 20
    names = {"rows", "boxes", "features", "objects_id", "objects_conf", "attrs_id", "attrs_conf"}
    assert {each["name"]: each["equal"] for each in found["columns"]} == dict.fromkeys(names, 1)


def test_two_commands_lead_from_a_caffemodel_to_the_regions_of_a_folder(user: Path) -> None:
    tiny = user / "tiny.yaml"
    assert run("add", tiny, user / "net.caffemodel") == 0
    out = user / "regions"
    words = ["extract", str(user / "pictures"), "--detector", str(tiny), "--out", str(out), "--cluster", "inline"]
    assert main([*words, "--quiet", "--device", "cpu"]) == 0
    table = open_folder(out / "regions")
    notes = table.metadata(table.shards[0].name)
    assert table.rows == len(SIZES)
    assert json.loads(notes["classes"])[:2] == ["thing 0", "thing 1"]
    assert json.loads(notes["attributes"])[-1] == "kind 4"
    assert notes["checkpoint"] == hashlib.sha256((user / "net.caffemodel").read_bytes()).hexdigest()
    assert {"tiny.yaml", "butd-r101.yaml", "tiny.safetensors"} <= {Path(name).name for name in table.header.resources}


def test_two_files_of_the_same_bytes_are_two_rows_of_one_image_and_no_problem(user: Path) -> None:
    pictures = user / "pictures"
    (pictures / "copy.png").write_bytes(min(pictures.iterdir()).read_bytes())
    words = ["extract", str(pictures), "--out", str(user / "out"), "--cluster", "inline", "--quiet", "--device", "cpu"]
    assert main([*words, "--format", "lxmert-tsv"]) == 0
    table = open_folder(user / "out" / "regions").read("00000", ["image_id", "source", "features"])
    first, second, copy = sorted(table.to_pylist(), key=lambda row: str(row["source"]))
    assert copy["image_id"] == first["image_id"] != second["image_id"]
    assert copy["features"] == first["features"]
    assert len((user / "out" / "regions.tsv").read_text().splitlines()) == len(SIZES) + 1
    assert main(["lint", str(user / "out")]) == 0


@pytest.mark.parametrize(
    "flipped",
    [
        {"input": {"colours": "rgb"}},
        {"input": {"mean": [122.7717, 115.9465, 102.9801]}},
        {"input": {"short_side": 128}},
        {"regions": {"dilation": 1}},
        {"box_rule": "continuous"},
    ],
    ids=["colours", "means", "scale", "dilation", "boxes"],
)
def test_a_rule_turned_round_does_not_agree(
    user: Path, flipped: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    golden = write_golden(user)
    (user / "flipped.yaml").write_text(yaml.safe_dump({"base": str(user / "tiny.yaml"), **flipped}))
    assert run("add", user / "flipped.yaml", user / "net.caffemodel") == 0
    assert run("verify", user / "flipped.yaml", "--golden", golden, "--pictures", user / "pictures") == 1
    assert "does not agree" in capsys.readouterr().out


def test_list_and_show_say_what_is_there(user: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "--json") == 0
    listed = {each["name"]: each["ready"] for each in json.loads(capsys.readouterr().out)["detectors"]}
    assert listed["starter"]
    assert not listed["butd-r101"]
    assert run("show", "butd-r101") == 0
    assert "resnet101_faster_rcnn_final.caffemodel" in capsys.readouterr().out
    assert run("add", user / "tiny.yaml", user / "net.caffemodel") == 0
    assert run("show", user / "tiny.yaml", "--json") == 0
    lines = capsys.readouterr().out.splitlines()
    assert json.loads(lines[-1])["weights"]["source"] == "net.caffemodel"


def test_the_list_has_the_detectors_of_ones_own(
    user: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With weights from wherever they are, without from the working folder. What cannot be loaded says why."""
    for name, content in {
        "mine.yaml": {"base": "butd-r101", "about": "mine, at 800 pixels", "input": {"short_side": 800}},
        "small.yml": {"base": "starter", "short_side": 200},
        "wrong.yaml": {"base": "butd-r101", "mystery": 1},
        "params.yaml": {"regions": {"detector": "mine.yaml"}},
    }.items():
        (user / "work" / name).parent.mkdir(exist_ok=True)
        (user / "work" / name).write_text(yaml.safe_dump(content))
    (user / "work" / "broken.yaml").write_text("a: [")
    (user / "gone.yaml").write_text((user / "tiny.yaml").read_text())
    assert run("add", user / "tiny.yaml", user / "net.caffemodel") == 0
    assert run("add", user / "gone.yaml", user / "net.caffemodel") == 0
    (user / "gone.yaml").unlink()
    (user / "store" / "junk.safetensors").write_text("no weights")
    monkeypatch.chdir(user / "work")
    capsys.readouterr()
    assert run("list", "--json") == 0
    rows = {each["name"]: each for each in json.loads(capsys.readouterr().out)["detectors"]}
    assert (rows["mine.yaml"]["about"], rows["mine.yaml"]["ready"]) == ("mine, at 800 pixels", False)
    assert rows["small.yml"]["ready"]
    assert rows["wrong.yaml"]["about"] == "not usable: there is no setting mystery"
    tiny = rows[str(user / "tiny.yaml")]
    assert (tiny["ready"], tiny["source"]) == (True, "net.caffemodel")
    assert rows[str(user / "gone.yaml")]["about"].startswith("not usable: there is no detector")
    junk = rows[str(user / "store" / "junk.safetensors")]["about"]
    assert junk.startswith("not usable: the detector's checkpoint cannot be read")
    assert not {"params.yaml", "broken.yaml"} & set(rows)


def test_the_files_of_milvlgs_detectron2_mode_are_found_again(user: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Saved as its script saves them, with torch's tensors in `info`."""
    (family,) = (each for each in FAMILIES if each.detector == "milvlg-d2-r50")
    weights = checkpoints.tensors(family, small(family))
    (user / "d2.yaml").write_text(yaml.safe_dump(small(family).overrides(family)))
    assert run("add", user / "d2.yaml", checkpoints.write(user / "net.pth", family, weights)) == 0
    for path in (user / "pictures").iterdir():
        with Image.open(path) as opened:
            pixels = opened.convert("RGB")
        found = extract_d2features(pixels, family, small(family), weights, 0.05, 0.5)
        info: Any = {"objects": found.objects.numpy(), "cls_prob": found.probs.numpy(), "attrs_id": found.attributes}
        np.savez_compressed(
            user / f"{path.stem}.npz", x=found.features.numpy(), bbox=found.boxes.numpy(), num_bbox=len(found.boxes),
            image_h=pixels.height, image_w=pixels.width, info=info | {"attrs_scores": torch.zeros(9, 5)},
        )  # fmt: skip
    capsys.readouterr()
    words = ["--golden", user, "--pictures", user / "pictures", "--device", "cpu", "--json"]
    assert run("verify", user / "d2.yaml", *words) == 0
    compared = json.loads(capsys.readouterr().out)
    assert compared["matched"] == compared["regions"] > 10
    names = {"rows", "boxes", "features", "objects_id", "objects_conf", "attrs_id", "attrs_conf"}
    assert {each["name"]: each["equal"] for each in compared["columns"]} == dict.fromkeys(names, 1)
    assert run("verify", user / "d2.yaml", *words, "--min-score", "0", "--max-regions", "5") == 1


def test_what_cannot_be_done_says_so(user: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in {
        ("add", "nothing", user / "net.caffemodel"): "there is no detector 'nothing'",
        ("add", "starter", user / "net.caffemodel"): "brings its own weights",
        ("add", "butd-r101", user / "none"): "does not exist",
        ("add", "butd-r101", user / "net.caffemodel"): "does not fit detector butd-r101",
        ("verify", user / "tiny.yaml"): "is not there",
    }.items():
        assert run(*words) == 1
        assert message in capsys.readouterr().err


def test_extracting_with_a_detector_that_has_no_weights_names_the_command_that_adds_them(
    user: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["extract", str(user), "--detector", "butd-r101", "--out", str(user / "regions")]) == 1
    assert "run `pairloom detector add butd-r101 FILE`" in capsys.readouterr().err

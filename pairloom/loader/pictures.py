"""Pictures that are resized on the device: batches carry what was decoded, and what was drawn for each of them.

The arithmetic is Pillow's bicubic resampling (libImaging/Resample.c): a part of the picture with fractional edges, an
antialiasing kernel, and whole numbers between its two passes. Both passes are matrix products, so that a GPU does them.
The pass across comes first. Pillow 13 takes now the one and now the other first, which shows beside sharp edges, where
the first pass goes beyond 0 to 255 and is cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pairloom.loader.buffers import Empty
from pairloom.table import Array

AT_ONCE = 32  # pictures, padded to the largest of them: more take more memory and little less time
SUPPORT = 2.0  # of the bicubic kernel, pixels to each side


@dataclass(frozen=True)
class Finish:
    """What comes after resizing, the same for all pictures of a recipe."""

    mean: tuple[float, float, float]  # of red, green, blue
    std: tuple[float, float, float]
    randaugment: tuple[int, int] = (0, 0)  # operations, and their strength of 30


@dataclass(frozen=True)
class Shown:
    """What is seen of one picture."""

    stored: tuple[int, int]  # height and width of what the batch carries, pixels
    box: tuple[float, float, float, float]  # x1 y1 x2 y2 of the part that is shown
    shape: tuple[int, int]  # height and width that it gets
    flip: bool = False
    seed: int | None = None  # of RandAugment's draws


@dataclass(frozen=True)
class Picture:
    """One picture that is not resized yet."""

    values_HW3: Array  # uint8, RGB
    shown: Shown
    finish: Finish


@dataclass(frozen=True)
class PictureBatch:
    """The pictures of a batch that are not resized yet."""

    values_N: Tensor  # uint8: of each picture its height × width × 3 values, one picture after the other
    shown: tuple[Shown, ...]
    finish: Finish

    def resized(self) -> tuple[Tensor, Tensor | None]:
        """(B, 3, S, S) float32 on the device where the values lie, and (B, S, S) bool as in Batch.pixel_mask_BSS."""
        height, width = (max(one.shape[axis] for one in self.shown) for axis in (0, 1))
        sizes = [one.stored[0] * one.stored[1] * 3 for one in self.shown]
        pieces = [
            values.view(*one.stored, 3) for values, one in zip(self.values_N.split(sizes), self.shown, strict=True)
        ]
        parts = [
            _resized(pieces[start : start + AT_ONCE], self.shown[start : start + AT_ONCE], height, width)
            for start in range(0, len(pieces), AT_ONCE)
        ]
        levels_B3SS = torch.cat(parts)
        for levels_3SS, one in zip(levels_B3SS, self.shown, strict=True):
            _augment(levels_3SS[:, : one.shape[0], : one.shape[1]], one, self.finish)
        mask_BSS = shape_mask([one.shape for one in self.shown], levels_B3SS.device)
        pixels_B3SS = _normalised(levels_B3SS, self.finish)
        return pixels_B3SS if mask_BSS is None else pixels_B3SS * mask_BSS[:, None], mask_BSS


def collate_pictures(pictures: Sequence[Picture], empty: Empty = np.empty) -> PictureBatch:
    """empty gives the memory of the values."""
    values: Array = empty((sum(one.values_HW3.size for one in pictures),), np.dtype(np.uint8))
    np.concatenate([one.values_HW3.reshape(-1) for one in pictures], out=values)
    return PictureBatch(torch.from_numpy(values), tuple(one.shown for one in pictures), pictures[0].finish)


def _resized(pieces: Sequence[Tensor], shown: Sequence[Shown], height: int, width: int) -> Tensor:
    """(n, 3, height, width) uint8: each picture at the upper left, 0 where it is smaller."""
    down, across = (max(piece.shape[axis] for piece in pieces) for axis in (0, 1))
    padded = pieces[0].new_zeros((len(pieces), 3, down, across), dtype=torch.float32)
    for place, piece in zip(padded, pieces, strict=True):
        place[:, : piece.shape[0], : piece.shape[1]] = piece.permute(2, 0, 1)
    rows, columns = ([one.box[axis] for one in shown] for axis in (1, 0))
    rows_end, columns_end = ([one.box[axis] for one in shown] for axis in (3, 2))
    heights, widths = ([one.shape[axis] for one in shown] for axis in (0, 1))
    stored = [[one.stored[axis] for one in shown] for axis in (0, 1)]
    across_nLS = weights(columns, columns_end, stored[1], widths, across, width).to(padded)
    down_nSL = weights(rows, rows_end, stored[0], heights, down, height).to(padded).mT
    once = _levels(torch.matmul(padded.flatten(1, 2), across_nLS))
    return _levels(torch.matmul(down_nSL[:, None], once.unflatten(1, (3, down)))).to(torch.uint8)


def _levels(values: Tensor) -> Tensor:
    """Rounded as Pillow does, from 0 to 255."""
    return (values + 0.5).floor_().clamp_(0, 255)


def weights(
    lows: Sequence[float], highs: Sequence[float], lengths: Sequence[int], sides: Sequence[int], longest: int, most: int
) -> Tensor:
    """(n, longest, most) float64: what each of a picture's pixels along a side adds to each that it is resized to.

    The part from low to high of a side of so many pixels becomes `side` pixels: precompute_coeffs of Pillow's
    Resample.c, where the kernel is as wide as a pixel that it makes.
    """
    low, high, length, side = (
        torch.tensor(values, dtype=torch.float64)[:, None] for values in (lows, highs, lengths, sides)
    )
    scale = (high - low) / side
    wide = scale.clamp(min=1)
    made = torch.arange(most, dtype=torch.float64)
    centre = low + (made + 0.5) * scale  # (n, most)
    first = (centre - SUPPORT * wide + 0.5).floor().clamp(min=0)
    last = torch.minimum((centre + SUPPORT * wide + 0.5).floor(), length)
    place = torch.arange(longest, dtype=torch.float64)[:, None]
    weight = _bicubic((place - centre[:, None] + 0.5) / wide[:, None])
    weight = weight * ((place >= first[:, None]) & (place < last[:, None]) & (made < side)[:, None])
    total = weight.sum(dim=1, keepdim=True)
    return weight / torch.where(total == 0, 1, total)


def _bicubic(distance: Tensor) -> Tensor:
    """Keys' kernel with a = −0.5, Pillow's."""
    far = distance.abs()
    near = (1.5 * far - 2.5) * far * far + 1
    tail = (((far - 5) * far + 8) * far - 4) * -0.5
    return torch.where(far < 1, near, torch.where(far < 2, tail, 0))


def _augment(levels_3SS: Tensor, shown: Shown, finish: Finish) -> None:
    """Mirror and change one picture in its place, by the draws that were made for it."""
    if shown.flip:
        levels_3SS.copy_(levels_3SS.flip(-1))
    if shown.seed is not None:
        from torchvision.transforms import RandAugment  # slow to import, and few recipes change pictures

        with drawing_by(shown.seed):
            levels_3SS.copy_(RandAugment(*finish.randaugment)(levels_3SS.contiguous()))


@contextmanager
def drawing_by(seed: int) -> Iterator[None]:
    """Torch's CPU draws follow this seed in the block, and go on afterwards as if it had not been."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would change that of each GPU, too
        yield


def shape_mask(shapes: Sequence[tuple[int, int]], device: torch.device | None = None) -> Tensor | None:
    """(B, S, S) bool, where there is picture and no filling. None if all pictures are of one height and width."""
    if len(set(shapes)) <= 1:
        return None
    heights, widths = torch.tensor(shapes, device=device).unbind(dim=1)
    rows_BS = torch.arange(int(heights.max()), device=device) < heights[:, None]
    columns_BS = torch.arange(int(widths.max()), device=device) < widths[:, None]
    return rows_BS[:, :, None] & columns_BS[:, None, :]


def _normalised(levels_B3SS: Tensor, finish: Finish) -> Tensor:
    mean, std = (torch.tensor(values, device=levels_B3SS.device)[:, None, None] for values in (finish.mean, finish.std))
    return levels_B3SS * (1 / (255 * std)) - mean / std

"""What the stage asks of a detector, whatever its family: `Network`, and `Detections`, its answer for one picture.

A family is a module or package of stages/regions that is a `Family`. The catalogue's entry names it (`family`).
extract.py and the stage itself know no family.

Letters: N proposals, K chosen ones, C object classes without background, A attributes, D feature width, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch.nn.functional as F
from PIL import Image
from torch import Tensor

Precision = Literal["fp32", "tf32", "bf16", "fp16"]


@dataclass(frozen=True)
class Detections:
    """What a detector says about the proposals of one picture, before selection. Tensors on the network's device.

    Order is the proposals', best objectness first. Ties in selection are broken by it.
    """

    size: tuple[int, int]  # (height, width) of the resized picture that the network saw
    # float32, x1 y1 x2 y2 in pixels of the resized picture: what was pooled. Where the published code clips to the
    # padded picture, they may end right of or below the resized one. What is stored is cut to the picture.
    proposals_N4: Tensor
    boxes: Tensor  # float32, (N, 4) where there is one box a proposal (raw or agnostic), or (N, C, 4), one a class
    scores_NC: Tensor  # float32, what selection looks at
    probs_NC: Tensor  # float32, the class distribution as stored. The rest to 1 is background (or unknown)
    features_ND: Tensor  # float32, input of the class head
    # (rows (K,), their classes (K,)) -> attribute probabilities (K, A); (K, 0) where the detector has none
    attributes: Callable[[Tensor, Tensor], Tensor]
    # side G -> (G·G, D): the whole picture through the class head's layers, pooled to G × G cells row by row, if it can
    grid: Callable[[int], Tensor] | None = None


def pooled_grid(map_1DHW: Tensor, side: int) -> Tensor:
    """A map of a whole picture as side × side cells, each the mean of the pixels that it covers: (side², D)."""
    return F.adaptive_avg_pool2d(map_1DHW, side)[0].flatten(1).T.float()


class Network(Protocol):
    """A loaded detector. Its answer for a picture may depend on no other picture (but for rounding)."""

    classes: tuple[str, ...]  # names, without background
    attributes: tuple[str, ...]
    feature_width: int
    sha256: str  # of the checkpoint file as the user has it, hex

    def place(self, device: str, precision: Precision) -> None:
        """Move to the device and cast. Box arithmetic, logits and softmax stay float32 in every precision."""

    def prepare(self, picture: Image.Image) -> Tensor:
        """The RGB picture resized as the network wants it: (3, H, W), uint8 or float32, on the CPU. Thread-safe."""

    def scale(self, picture_size: tuple[int, int], prepared_size: tuple[int, int]) -> tuple[float, float]:
        """(sx, sy): factors from pixels of the resized picture (height, width) to the stored one's (height, width)."""

    def detect(self, images_N3HW: Tensor, picture_sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        """One answer a picture. All are of one prepared size, on the network's device, as `prepare` made them.

        picture_sizes: (height, width) of the stored pictures: caffe's least size of a proposal is in their pixels.
        """


class Family(Protocol):
    """The module of a family. `spec` is the catalogue's entry, of the family's own type."""

    def load(self, spec: Any, path: Path, /) -> Network:
        """The detector of this entry with the weights at `path`, on the CPU."""

    def checkpoint_file(self, spec: Any, /) -> Path:
        """The weights that are used where none are named."""

    def files(self, spec: Any, path: Path, /) -> tuple[Path, ...]:
        """All files that decide what it says, for the fingerprint."""

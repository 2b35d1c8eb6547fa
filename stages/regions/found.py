"""What a detector says about a picture before selection, and what the engine asks of a detector, whatever its family.

Letters: N proposals (or pictures of a batch), C object classes without background, A attributes, D feature width,
K rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class Found:
    """What a detector says about the proposals of one picture, before selection; tensors on the model's device."""

    size: tuple[int, int]  # (height, width) of the resized picture that the model saw
    proposals_N4: Tensor  # float32, x1 y1 x2 y2 in pixels of the resized picture: the RoIs
    boxes: Tensor  # (N, 4) where the detector returns one box a proposal, or (N, C, 4) regressed for each class
    scores_NC: Tensor  # float32, what selection looks at
    probs_NC: Tensor  # float32, the class distribution as stored; rows sum to at most 1, the rest is background
    features_ND: Tensor  # float32, input of the class head
    # (rows (K,), classes (K,)) -> (K, A) probabilities, or (K, 0). Where the published head conditions on the argmax of
    # all scores, background included, it ignores `classes`.
    attributes: Callable[[Tensor, Tensor], Tensor]


class Network(Protocol):
    """A loaded detector, whatever its family."""

    def prepare(self, picture: Image.Image) -> Tensor:
        """On the CPU: the resized picture as the network wants it, (3, H, W), float32 or uint8."""

    def scale(self, picture_size: tuple[int, int], prepared_size: tuple[int, int]) -> tuple[float, float]:
        """(sx, sy) by which a box of the resized picture becomes one of the stored picture.

        picture_size: (width, height) of the stored picture; prepared_size: (height, width) of the prepared tensor.
        """

    def detect(self, images_N3HW: Tensor, picture_sizes: Sequence[tuple[int, int]]) -> list[Found]:
        """What is in pictures of one and the same prepared size; picture_sizes: (width, height) of the stored ones."""

"""What frozen networks made of pictures, kept in memory: such pictures come again in every epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import chain

import torch
from torch import Tensor, nn

_FOUND: dict[bytes, dict[bytes, Tensor]] = {}  # by a network and its weights, by a picture: for all of the process


class Kept:
    """Cells by the digests of the picture's pixels and of the network's layers and weights, so that none is another's.

    most: pictures. Where that many are kept, others are seen again each time.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._written = -1  # how often the weights had been written to when they were last digested
        self._found: dict[bytes, Tensor] = {}

    def __call__(self, pixels_B3SS: Tensor, network: nn.Module) -> Tensor:
        """(B, C, S, S). Each picture is seen alone: its cells must not depend on which others were kept."""
        weights = list(chain(network.parameters(), network.buffers()))
        if (written := sum(value._version for value in weights)) != self._written:
            self._written, self._found = written, _FOUND.setdefault(_digest(weights, repr(network)), {})
        cells = []
        for pixels_3SS in pixels_B3SS:
            key = _digest([pixels_3SS])
            if (found := self._found.get(key)) is None:
                with torch.no_grad():
                    found = network(pixels_3SS[None])[0]
                if len(self._found) < self.most:
                    self._found[key] = found
            cells.append(found)
        return torch.stack(cells)


def _digest(tensors: Iterable[Tensor], layers: str = "") -> bytes:
    sha = hashlib.sha1(layers.encode(), usedforsecurity=False)
    for tensor in tensors:
        sha.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return sha.digest()

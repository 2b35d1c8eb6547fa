"""Where the time of our network goes, for benchmarks/regions.py: seconds by part, and the arithmetic of the head."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from stages.regions.published.heads import Res5Head
from stages.regions.published.network import PublishedDetector


class Parts:
    """Seconds of the parts of our network, by hooks, and the regions that went through it."""

    def __init__(self, model: PublishedDetector, device: str) -> None:
        self.seconds, self.regions, self.device = Counter[str](), 0, device
        for name in ("backbone", "rpn", "pool", "head"):
            part, begun = getattr(model, name), list[float]()
            part.register_forward_pre_hook(lambda *_, begun=begun: begun.append(self.now()))
            part.register_forward_hook(
                lambda *_, name=name, begun=begun: self.seconds.update({name: self.now() - begun.pop()})
            )
        model.predictor.cls_score.register_forward_hook(self._count)

    def now(self) -> float:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter()

    def _count(self, layer: nn.Module, inputs: Any, out: Tensor) -> None:
        self.regions += len(out)


def operations(model: PublishedDetector, device: str) -> int:
    """Multiplications and additions of the region head as published for one region, whatever way ours takes."""
    found, hooks = list[int](), list[Any]()

    def count(layer: Any, inputs: Any, out: Tensor) -> None:
        found.append(2 * out.numel() * layer.weight[0].numel())

    for layer in model.head.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            hooks.append(layer.register_forward_hook(count))
    rules, channels = model.settings.regions, model.settings.backbone.map_channels
    region = torch.zeros(1, channels, rules.pool_size, rules.pool_size, device=device, dtype=model.dtype)
    model.head.map(region) if isinstance(model.head, Res5Head) else model.head(region)
    for hook in hooks:
        hook.remove()
    return sum(found)


def matmul_rate(dtype: torch.dtype, device: str, side: int = 2048) -> float:
    """Operations a second of a plain square product, the best of five."""
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(6):
        start = time.perf_counter()
        float((a @ b)[0, 0])  # waits for a GPU
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best

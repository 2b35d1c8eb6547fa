"""Per-class NMS over 1,600 classes: our one pass against 1,600 calls of torchvision's nms, on one core.

`python -m benchmarks.selection`: 300 seeded boxes. Class probabilities are the softmax of normal logits, whose spread
says how sure the detector is. Flat scores are the worst there is, and no trained detector's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torchvision.ops import nms

from stages.regions.select import POLICIES, select
from stages.regions.suppression import Array

PROPOSALS, CLASSES = 300, 1600


def detections(spread: float) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 600, (PROPOSALS, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(8, 300, (PROPOSALS, 2))], axis=1).astype(np.float32)
    logits = torch.from_numpy(rng.normal(0, spread, (PROPOSALS, CLASSES)).astype(np.float32))
    return boxes, logits.softmax(dim=1).numpy()


def one_call_a_class(boxes: Array, scores: Array, threshold: float) -> Array:
    """max_conf of the published loop."""
    confidence, corners = np.zeros(len(boxes), np.float32), torch.from_numpy(boxes)
    for c in range(scores.shape[1]):
        kept = nms(corners, torch.from_numpy(scores[:, c].copy()), threshold).numpy()
        confidence[kept] = np.maximum(confidence[kept], scores[kept, c])
    return confidence


def seconds(call: Callable[[], Any], times: int) -> float:
    best = float("inf")
    for _ in range(times):
        start = time.process_time()
        call()
        best = min(best, time.process_time() - start)
    return best


def main() -> None:
    torch.set_num_threads(1)
    print(f"{PROPOSALS} boxes × {CLASSES} classes, CPU ms; torch {torch.__version__}, numpy {np.__version__}")
    print(f"{'scores':24}{'policy':10}{'torchvision':>12}{'ours':>8}{'ratio':>8}")
    for name, spread in (("sure (spread 4)", 4.0), ("less sure (spread 3)", 3.0), ("flat (spread 0.1)", 0.1)):
        boxes, scores = detections(spread)
        for policy in ("butd", "fixed-36", "vmb-100"):
            theirs = seconds(lambda b=boxes, s=scores, p=policy: one_call_a_class(b, s, POLICIES[p].nms), 2)  # type: ignore[misc]
            ours = seconds(lambda b=boxes, s=scores, p=policy: select(b, s, POLICIES[p]), 5)  # type: ignore[misc]
            print(f"{name:24}{policy:10}{theirs * 1e3:12.0f}{ours * 1e3:8.1f}{theirs / ours:7.0f}×")


if __name__ == "__main__":
    main()

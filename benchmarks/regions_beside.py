"""What a picture costs beside the network: CPU time of `pairloom extract` on tiny pictures, by part.

`python -m benchmarks.regions_beside [--pictures 2000] [--detector butd-r101] [--side 64]`

The network is replaced by an answer of its size that is always the same: as many proposals as the detector leaves, all
its classes, features as wide. All else is what `extract` does: list, hash, read, decode, resize as the detector wants
it, hand over between threads, select, pack, write. It runs in one process, and torch has one thread. Pictures are
seeded JPEGs of `side` by three quarters of it. Before the clock starts, 64 other pictures are extracted.

This module is a stage (`setup` and the rest below), since a stage of one's own is run by its module's name.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pairloom.table import Table
from pipeline import task
from pipeline.config import RunConfig
from pipeline.executor import Options, run_stage
from pipeline.verbs.extracting import write_files
from stages import regions
from stages.folder import regions as folder_regions
from stages.folder.files import find
from stages.folder.regions import INPUTS, OUTPUT, VERSION, Config, process
from stages.regions import catalogue, extract, pictures, stored
from stages.regions.contract import Detections
from stages.regions.published import picture
from stages.regions.published.settings import FasterRCNN
from stages.regions.starter.network import StarterNetwork

__all__ = ["INPUTS", "OUTPUT", "VERSION", "Config", "process", "resources", "setup"]

GOAL = 200  # pictures a CPU second


class StandIn:
    """Prepares pictures as the detector does, and gives each the same answer."""

    def __init__(self, spec: Any) -> None:
        self.spec, self.sha256 = spec, "0" * 64
        published = isinstance(spec, FasterRCNN)
        proposals = min(spec.proposals.after_nms, 1000) if published else spec.rpn_proposals
        count = spec.classes if published else 1092
        self.classes, self.attributes = tuple(map(str, range(count))), tuple(map(str, range(400)))
        self.feature_width = spec.feature_width
        rng = np.random.default_rng(0)
        corners = rng.uniform(0, 400, (proposals, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(8, 190, (proposals, 2))], axis=1)
        self.boxes_N4 = torch.from_numpy(boxes.astype(np.float32))
        self.probs_NC = torch.from_numpy(rng.normal(0, 3, (proposals, count)).astype(np.float32)).softmax(dim=1)
        self.features_ND = torch.from_numpy(rng.uniform(0, 4, (proposals, spec.feature_width)).astype(np.float32))
        self.attributes_NA = torch.from_numpy(rng.normal(0, 3, (proposals, 400)).astype(np.float32)).softmax(dim=1)
        regressed = published and spec.boxes == "regressed" and not spec.agnostic
        self.boxes = self.boxes_N4[:, None].expand(-1, count, -1) if regressed else self.boxes_N4

    def place(self, device: str, precision: str) -> None:
        """Nothing to move."""

    def prepare(self, image: Image.Image) -> Tensor:
        if isinstance(self.spec, FasterRCNN):
            return picture.prepare(image, self.spec.input)
        return StarterNetwork.prepare(self, image)  # type: ignore[arg-type]  # which needs its settings alone

    def scale(self, picture_size: tuple[int, int], prepared_size: tuple[int, int]) -> tuple[float, float]:
        return picture_size[1] / prepared_size[1], picture_size[0] / prepared_size[0]

    def detect(self, images_N3HW: Tensor, picture_sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        size = (images_N3HW.shape[2], images_N3HW.shape[3])
        return [
            Detections(
                size, self.boxes_N4, self.boxes, self.probs_NC, self.probs_NC, self.features_ND,
                lambda rows, classes: self.attributes_NA[rows],
            )
            for _ in picture_sizes
        ]  # fmt: skip


def resources(config: Config) -> tuple[Path, ...]:
    """The detector's settings alone: there are no weights."""
    return catalogue.files(config.detector)


def setup(config: Config, folder: Path) -> folder_regions.Tools:
    """The stand-in for the detector that the settings name."""
    spec = catalogue.load(config.detector)
    return folder_regions.Tools(
        regions.tools_of(StandIn(spec), spec.name, config, spec.prob_width), Path(config.folder)
    )


class Parts:
    """CPU seconds of the parts, each in the thread that it ran in. No part lies inside of another."""

    def __init__(self) -> None:
        self.seconds = defaultdict[str, float](float)

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            start = time.thread_time()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds[name] += time.thread_time() - start

        return call


PARTS: tuple[tuple[str, Any, str], ...] = (
    ("list and hash", None, ""),
    ("read and hash again", folder_regions, "read"),
    ("decode", pictures, "decode"),
    ("resize", StandIn, "prepare"),
    ("stack", extract, "stacked"),
    ("select and take", extract, "regions_of"),
    ("check values", stored, "bad_value"),
    ("pack", Table, "table"),
    ("write", task, "write_shard"),
)


@contextmanager
def watched(parts: Parts) -> Iterator[None]:
    with ExitStack() as stack:
        for name, place, attribute in PARTS:
            if place is not None:
                stack.enter_context(mock.patch.object(place, attribute, parts.timed(name, getattr(place, attribute))))
        yield


def draw(folder: Path, count: int, side: int) -> None:
    """Seeded JPEGs, smooth as photographs are."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
        coarse.resize((side, side * 3 // 4), Image.Resampling.BICUBIC).save(folder / f"{number:06}.jpg", quality=90)


def measure(detector: str, count: int, side: int) -> tuple[Parts, float]:
    """CPU seconds by part, and of all."""
    torch.set_num_threads(1)
    parts = Parts()
    with tempfile.TemporaryDirectory() as name:
        folder, out = Path(name, "pictures"), Path(name, "out")
        folder.mkdir()
        for kind, number in (("first", 64), ("timed", count)):  # the first load libraries and compile kernels
            draw(folder / kind, number, side)
            config = Config(detector=detector, folder=str(folder / kind), device="cpu")
            parts.seconds.clear()
            start = time.process_time()
            parts.timed("list and hash", write_files)(find(folder / kind, out), out / kind, True)
            with watched(parts):
                run_stage(__name__, config, out / kind, Options(RunConfig(cluster="inline"), plain=True))
            seconds = time.process_time() - start
    return parts, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--detector", default="butd-r101")
    parser.add_argument("--side", type=int, default=64, help="pixels of the longer side")
    options = parser.parse_args()
    parts, seconds = measure(options.detector, options.pictures, options.side)
    parts.seconds["all else: threads, tables, manifests"] = seconds - sum(parts.seconds.values())
    print(f"{options.detector}, {options.pictures} pictures of {options.side} pixels\n")
    print("| part | CPU ms a picture |\n|---|---|")
    for name, value in sorted(parts.seconds.items(), key=lambda part: -part[1]):
        print(f"| {name} | {1000 * value / options.pictures:.2f} |")
    print(f"| **all** | **{1000 * seconds / options.pictures:.2f}** |")
    rate = options.pictures / seconds
    print(f"\n{rate:.0f} pictures a CPU second beside the network (goal: {GOAL})")


if __name__ == "__main__":
    from benchmarks import regions_beside  # the stage is run by this name: its classes are to be the same

    regions_beside.main()

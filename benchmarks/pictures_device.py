"""Resizing and augmenting pictures in the loader or on the device, in one run: batches that lie ready on the device.

`python -m benchmarks.pictures_device [--device cuda] [--recipe vilt] [--rows 1600] [--workers 4]`: the pictures of
benchmarks/loader.py, batches of 64. Both ways take turns, ten batches each. Rows a second count until the device has
finished. CPU seconds are those of all processes. On a GPU, `resize: device` leaves the CPU the decoding alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.loader import BATCH, SEED, cpu_seconds, make_records, write_ours
from pairloom.loader import Loader, Options
from systems import recipes

TURN = 10  # batches
WAYS: tuple[Any, ...] = ("loader", "device")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--recipe", default="clip")
    parser.add_argument("--size", default="base")
    parser.add_argument("--rows", type=int, default=800)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device, recipe = torch.device(arguments.device), recipes.load(arguments.recipe, arguments.size)
    with tempfile.TemporaryDirectory() as folder:
        write_ours(Path(folder), make_records(arguments.rows))
        options = {way: Options(captions="one", resize=way, pin=device.type == "cuda") for way in WAYS}
        loaders = {
            way: Loader(folder, recipe, seed=SEED, batch_size=BATCH, workers=arguments.workers, options=options[way])
            for way in WAYS
        }
        for loader in loaders.values():
            turn(iter(loader), device)  # workers have started, and kernels are chosen
        found = {way: np.array([turn(iter(loaders[way]), device) for _ in range(arguments.turns)]) for way in WAYS}
        for loader in loaders.values():
            loader.close()
    print(f"{recipe.name} {arguments.size} on {device}, {arguments.workers} workers, torch {torch.__version__}")
    for way, turns in found.items():
        rate, cpu = np.median(turns, axis=0)
        print(f"resize: {way:8}{rate:8.0f} pictures/s{cpu:8.2f} CPU ms a picture")


def turn(batches: Any, device: torch.device) -> tuple[float, float]:
    """(pictures a second, CPU milliseconds a picture) of the next batches."""
    began, cpu = time.perf_counter(), cpu_seconds()
    rows = sum(len(next(batches).to(device)) for _ in range(TURN))
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return rows / (time.perf_counter() - began), 1000 * (cpu_seconds() - cpu) / rows


if __name__ == "__main__":
    main()

"""Which NVIDIA card a worker process uses, and how many threads of arithmetic; both before torch is loaded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


def gpus() -> list[str]:
    """The numbers of the NVIDIA cards that this process may use, without loading torch."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [number for number in chosen.split(",") if number]
    folder = Path("/proc/driver/nvidia/gpus")
    return [str(number) for number in range(len(list(folder.iterdir())))] if folder.is_dir() else []


def pick_gpu(rank: int, devices: Sequence[str]) -> None:
    """Give this worker process one card, by its rank. Before it loads torch. Not tried on a machine with two yet."""
    os.environ["CUDA_VISIBLE_DEVICES"] = devices[rank % len(devices)]


def one_thread_a_worker() -> None:
    """One thread of arithmetic a process, however it runs: sums come out the same, and processes don't fight for cores.

    Must come before torch, numpy or numba start their threads. Dask's own workers have the same setting.
    """
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, "1")

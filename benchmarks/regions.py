"""Region extraction against detectron2's own predictor loop: the same network, weights and pictures in one run.

`python -m benchmarks.regions [--pictures 6] [--proposals 300] [--depth 101] [--device cpu] [--threads N]`

The network is bottom-up attention's in size and shape: ResNet-101-C4, RoIPool 14 × 14, a dilated res5 on 300 proposals,
1,600 classes, 600 × 1000 pixels. Seeded weights, since the published ones cannot be had. Each line is a process of its
own: decode, resize, detect, select, from encoded pictures to stored features. detectron2's line is what its
DefaultPredictor does: one picture a call, float32, and on a GPU also with the convolutions in tf32, as torch has them
unless told otherwise. Pictures: photographs that scikit-image installs, and seeded scenes.

With `--fpn` the network is ResNet-50-FPN, which torchvision has too.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.regions_networks import Way, pictures, runner, same_features
from benchmarks.regions_parts import Parts, matmul_rate, operations
from stages.regions.precision import multiplies
from stages.regions.stored import StoredRegions

MB = 1 << 20


def ways(options: argparse.Namespace) -> list[Way]:
    gpu = options.device.startswith("cuda")
    ours = [Way("ours", "fp32", 1), Way("ours", "fp32", options.batch)]
    if gpu or options.bf16:
        ours.append(Way("ours", "bf16", options.batch))
    if gpu:
        ours += [Way("ours", "tf32", options.batch), Way("ours", "fp16", options.batch)]
    peers = [
        Way("detectron2", "fp32", 1),
        *([Way("detectron2", "tf32", 1)] if gpu else []),
        *([Way("torchvision", "fp32", 1)] if options.fpn else []),
    ]
    return [*peers, *dict.fromkeys(ours)]


def measure(way: Way, options: argparse.Namespace) -> dict[str, Any]:
    """One line, measured in this process: a picture to warm up, then all of them."""
    torch.set_num_threads(options.threads)
    bodies = pictures(options.pictures, options.seed)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        run, network = runner(way, options, Path(folder))
        loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        gpu = options.device.startswith("cuda")
        run(bodies if gpu else bodies[:1])  # to warm up: a GPU's kernels are chosen anew for each size
        parts = Parts(network.model, options.device) if network and not gpu else None
        start, cpu = time.perf_counter(), time.process_time()
        results = run(bodies)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        whole = seconds
        if network and gpu:  # a pass of their own: what asks a GPU for the time makes it wait
            parts, start = Parts(network.model, options.device), time.perf_counter()
            run(bodies)
            whole = time.perf_counter() - start
    facts: dict[str, Any] = {"seconds": seconds, "cpu": cpu}
    facts["memory"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - loaded) / 1024
    if gpu:
        facts["memory"] = torch.cuda.max_memory_allocated() / MB
    if parts:
        dtype = network.model.dtype
        facts["parts"] = {name: value / whole for name, value in parts.seconds.items()}
        with torch.inference_mode():
            facts["rate"] = operations(network.model, options.device) * parts.regions / max(parts.seconds["head"], 1e-9)
        facts["matmul"] = matmul_rate(dtype, options.device)
        path = Path(options.results) / f"{way.precision}-{way.batch}.npz"
        _save(results, path)
    return facts


def _save(results: Sequence[StoredRegions], path: Path) -> None:
    arrays = {f"{name}{row}": getattr(one, name) for row, one in enumerate(results) for name in ("boxes", "features")}
    np.savez(path, **arrays)


def agreement(path: Path, reference: Path, count: int) -> tuple[float, float]:
    """(share of the reference's boxes that are there to half a pixel, mean cosine of their features)."""
    one, other = np.load(path), np.load(reference)
    same, cosines, total = 0, list[float](), 0
    for row in range(count):
        ours, theirs = one[f"boxes{row}"], other[f"boxes{row}"]
        nearest = np.abs(theirs[:, None] - ours[None]).max(axis=2)
        total += len(theirs)
        for k, j in enumerate(nearest.argmin(axis=1)):
            if nearest[k, j] <= 0.5:
                same += 1
                a, b = other[f"features{row}"][k].astype("f8"), one[f"features{row}"][j].astype("f8")
                cosines.append(float(a @ b / np.sqrt((a @ a) * (b @ b))))
    return same / max(total, 1), float(np.mean(cosines)) if cosines else float("nan")


def table(facts: dict[Way, dict[str, Any]], options: argparse.Namespace) -> Iterator[str]:
    base, count = facts[Way("detectron2", "fp32", 1)], options.pictures
    yield f"{'':26}{'images/s':>10}{'× d2':>7}{'CPU s/image':>13}{'× d2':>7}{'peak MB':>9}{'boxes':>7}{'cosine':>9}"
    reference = Path(options.results) / "fp32-1.npz"
    for way, fact in facts.items():
        text = f"{way!s:26}{count / fact['seconds']:10.3f}{base['seconds'] / fact['seconds']:7.2f}"
        text += f"{fact['cpu'] / count:13.2f}{base['cpu'] / fact['cpu']:7.2f}{fact['memory']:9.0f}"
        if way.peer == "ours":
            path = Path(options.results) / f"{way.precision}-{way.batch}.npz"
            share, cosine = agreement(path, reference, count)
            text += f"{share:7.1%}{cosine:9.5f}"
        yield text
    for way, fact in facts.items():
        if "parts" in fact:
            parts = ", ".join(f"{name} {share:.0%}" for name, share in fact["parts"].items())
            rest = 1 - sum(fact["parts"].values())
            yield (
                f"{way}: {parts}, other {rest:.0%}; head {fact['rate'] / 1e9:.0f} GFLOP/s of the published "
                f"arithmetic, {fact['rate'] / fact['matmul']:.0%} of a plain matmul's {fact['matmul'] / 1e9:.0f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=6)
    parser.add_argument("--proposals", type=int, default=300)
    parser.add_argument("--depth", type=int, choices=(50, 101), default=101)
    parser.add_argument("--short-side", type=int, default=600, help="pixels; the longer side at most 5/3 of it")
    parser.add_argument("--fpn", action="store_true", help="ResNet-50-FPN, against torchvision too")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--decoders", type=int, default=1, help="threads that decode and resize, ours only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--bf16",
        action=argparse.BooleanOptionalAction,
        default=multiplies("bf16"),
        help="default: where the CPU has the instructions; without them it is several times slower than fp32",
    )
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--results", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(Way(**json.loads(options.way)), options)))
        return
    with tempfile.TemporaryDirectory() as results:
        options.results = results
        device = torch.cuda.get_device_name() if options.device.startswith("cuda") else "CPU"
        print(
            f"{device}, {options.threads} threads, torch {torch.__version__}, detectron2 {version('detectron2')}, ",
            end="",
        )
        print(f"{options.pictures} pictures, seed {options.seed}", flush=True)
        print(f"features against detectron2's: largest relative difference {same_features(options):.1e}", flush=True)
        facts = {}
        for way in ways(options):
            facts[way] = _in_its_own_process(way, results)
            print(f"{way!s:26}{options.pictures / facts[way]['seconds']:10.3f} images/s", file=sys.stderr, flush=True)
        print("\n".join(table(facts, options)))


def _in_its_own_process(way: Way, results: str) -> dict[str, Any]:
    words = [sys.executable, "-m", "benchmarks.regions", *sys.argv[1:]]
    words += ["--way", json.dumps(vars(way)), "--results", results]
    output = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
    facts: dict[str, Any] = json.loads(output.splitlines()[-1])
    return facts


if __name__ == "__main__":
    main()

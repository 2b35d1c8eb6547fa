"""What each choice of storage costs in bytes and in error, measured on the starter's answers for held-out scenes.

`python -m benchmarks.stored_regions [--scenes 20]`: for class probabilities, bytes an image and the Kullback-Leibler
divergence of the whole distribution from what can be rebuilt (stored classes, background, and the rest shared out
evenly, which is all that a reader knows); for features, bytes and relative error against float32.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from stages.regions import Config, setup
from stages.regions.select import select
from stages.regions.starter.evaluate import scene
from stages.regions.suppression import Array


def rebuilt(probs_KC: Array, width: int) -> Array:
    """The distribution (K, C + 1) that a reader of float16 top-`width` values makes. The last is background."""
    background_K1 = (1 - probs_KC.sum(axis=1, keepdims=True)).clip(min=0).astype("<f4").astype("f8")
    order = np.argsort(-probs_KC, axis=1, kind="stable")[:, :width]
    kept_KP = np.take_along_axis(probs_KC, order, axis=1).astype("<f2").astype("f8")
    others = probs_KC.shape[1] - width
    rest_K1 = (1 - background_K1 - kept_KP.sum(axis=1, keepdims=True)).clip(min=0) / max(others, 1)
    made = np.repeat(rest_K1, probs_KC.shape[1], axis=1)
    np.put_along_axis(made, order, kept_KP, axis=1)
    return np.concatenate([made, background_K1], axis=1)


def divergence(truth: Array, made: Array) -> float:
    """Mean over regions of Σ p log p/q, in nats."""
    return float(np.where(truth > 0, truth * np.log(truth.clip(1e-12) / made.clip(1e-12)), 0).sum(axis=1).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=20)
    count = parser.parse_args().scenes
    torch.set_num_threads(1)
    engine = setup(Config(device="cpu"), Path()).engine
    probs, features = [], []
    with torch.inference_mode():
        for number in range(count):
            picture = Image.fromarray(scene(number).image)
            size = (picture.height, picture.width)
            (found,) = engine.network.detect(engine.network.prepare(picture)[None], [size])
            kept = select(found.boxes.numpy(), found.scores_NC.numpy(), engine.policy)
            probs.append(found.probs_NC.numpy()[kept.rows_K].astype("f8"))
            features.append(found.features_ND.numpy()[kept.rows_K])
    every, wide = np.concatenate(probs), np.concatenate(features)
    truth = np.concatenate([every, (1 - every.sum(axis=1, keepdims=True)).clip(min=0)], axis=1)
    regions, classes = len(every) / count, every.shape[1]
    print(f"{count} scenes, {regions:.1f} regions each, {classes} classes, {wide.shape[1]} features")
    print(f"{'class_probs':14}{'bytes an image':>16}{'of 36 × 1600':>14}{'divergence, nats':>18}")
    for width in (1, 16, 64, 256, classes):
        bytes_each = 4 * width + 4
        full = 1600 if width == classes else width
        name = "full" if width == classes else str(width)
        error = divergence(truth, rebuilt(every, width))
        print(f"{name:14}{regions * bytes_each:16,.0f}{36 * (4 * full + 4):14,}{error:18.2e}")
    half = wide.astype("<f2").astype("f4")
    cosine = (half * wide).sum(axis=1) / np.linalg.norm(half, axis=1) / np.linalg.norm(wide, axis=1)
    error = np.abs(half - wide).max() / np.abs(wide).max()
    print(f"{'features':14}{'bytes an image':>16}{'of 36 × 2048':>14}{'largest error':>18}{'1 - cosine':>12}")
    print(f"{'float32':14}{regions * 4 * wide.shape[1]:16,.0f}{36 * 4 * 2048:14,}{0:18}{0:12}")
    print(f"{'float16':14}{regions * 2 * wide.shape[1]:16,.0f}{36 * 2 * 2048:14,}{error:18.1e}{1 - cosine.min():12.1e}")


if __name__ == "__main__":
    main()

"""Whether similarities tell true captions from swapped ones: `clip` trained on composed scenes, judged by their truth.

python -m benchmarks.score_scenes [--scenes 1500] [--held-out 300] [--steps 400]

Recipe clip at size tiny is trained on scenes of 24 named things with five English captions each (those of
`make recipes`). Stage score scores scenes that it has not seen with that checkpoint: each caption with its own picture
and with another, of which it is not true. AUC (scikit-learn's) is the share of such pairs of pairs in which the true
one is higher. A model that knows nothing has 0.5: the same model after one step, scored in the same run, shows it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from sklearn.metrics import roc_auc_score

from benchmarks.negatives_truth import scenes
from demo.judging import is_true
from demo.pictures import jpeg
from demo.scenes import Scene
from schemas.pairs import PAIRS
from schemas.shards import SHARDS
from stages import score
from systems import recipes
from tests.building import training_row, training_shard, write_table
from trainer import loop

NOTES = {"detector": "none", "checkpoint": "none", "feature_width": "1", "prob_width": "0", "classes": '["thing"]',
         "attributes": '["none"]'}  # fmt: skip


def training_rows(made: list[Scene], texts: list[list[str]], first: int) -> list[dict[str, Any]]:
    return [
        training_row(
            first + number, own, np.zeros((1, 4)), np.zeros((1, 1)), image=jpeg(Image.fromarray(scene.image)),
            width=scene.image.shape[1], height=scene.image.shape[0],
        )
        for number, (scene, own) in enumerate(zip(made, texts, strict=True))
    ]  # fmt: skip


def pairs(made: list[Scene], texts: list[list[str]]) -> pa.Table:
    count, one = len(made), [1] * len(made)
    return PAIRS.table(
        image_id=[number.to_bytes(16, "big") for number in range(count)], format=["jpeg"] * count,
        image=[jpeg(Image.fromarray(scene.image)) for scene in made], width=one, height=one, original_width=one,
        original_height=one, url=["u"] * count, sha256=[bytes(32)] * count, phash=one, extra=[[]] * count,
        captions=[[{"text": t, "original": t, "lang": "en"} for t in own] for own in texts],
    )  # fmt: skip


def swapped(made: list[Scene], texts: list[list[str]], rng: np.random.Generator) -> list[list[str]]:
    """For each scene as many captions of others, none of which is true of it."""
    every = [text for own in texts for text in own]
    found = []
    for scene, own in zip(made, texts, strict=True):
        order = rng.permutation(len(every))
        wrong = (every[place] for place in order if not is_true(every[place], scene))
        found.append([next(wrong) for _ in own])
    return found


def auc(model: Path, made: list[Scene], true: list[list[str]], wrong: list[list[str]]) -> float:
    config = score.Config(model=str(model), device="cpu")
    tools = score.setup(config, Path())
    both = [[*own, *others] for own, others in zip(true, wrong, strict=True)]
    table, rejects = score.process(pairs(made, both), tools)
    assert not len(rejects), "composed pictures can be read"
    labels = np.concatenate([[1] * len(own) + [0] * len(others) for own, others in zip(true, wrong, strict=True)])
    return float(roc_auc_score(labels, np.concatenate(table["similarity"].to_pylist())))


def trained(room: Path, made: list[Scene], texts: list[list[str]], cut: int, steps: int) -> Path:
    """The checkpoint of recipe clip, trained on the scenes before `cut`, in this folder."""
    splits = {"train-00000": ("train", 0, cut), "val-00000": ("val", cut, len(made))}
    shards = {
        shard: training_shard(training_rows(made[start:end], texts[start:end], start), split, NOTES)
        for shard, (split, start, end) in splits.items()
    }
    write_table(room / "shards", SHARDS, shards)
    config = loop.Config(steps=steps, threads=1, device="cpu")
    result = loop.train(recipes.load("clip", "tiny", config.overrides()), room / "shards", config)
    loop.save(result, room / "model", None)
    return room / "model"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=1500)
    parser.add_argument("--held-out", type=int, default=300)
    parser.add_argument("--steps", type=int, default=400)
    arguments = parser.parse_args()
    made, flat, _ = scenes(arguments.scenes)
    texts = [flat[start : start + 5] for start in range(0, len(flat), 5)]
    cut = arguments.scenes - arguments.held_out
    wrong = swapped(made[cut:], texts[cut:], np.random.default_rng(0))
    with tempfile.TemporaryDirectory() as name:
        room = Path(name)
        for steps in (1, arguments.steps):
            model = trained(room / str(steps), made, texts, cut, steps)
            found = auc(model, made[cut:], texts[cut:], wrong)
            pairs_of = sum(map(len, wrong))
            print(
                f"clip tiny, {steps} steps on {cut} scenes: AUC {found:.3f} of {pairs_of} true and as many swapped",
                flush=True,
            )


if __name__ == "__main__":
    main()

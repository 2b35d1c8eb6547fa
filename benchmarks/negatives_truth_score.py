"""What `veto: score` takes out of the hard negatives of composed scenes, judged by their truth.

python -m benchmarks.negatives_truth_score [--scenes 1500] [--held-out 300] [--steps 400] [--top-k 30]

Recipe clip at size tiny is trained as in benchmarks/score_scenes.py, and the captions of the scenes that it has not
seen are mined with and without the veto. The thresholds are similarities that so large a share of the pictures' own
captions reach. `false` and `good that the veto takes` are those of benchmarks/negatives_truth.py. The peer is the rule
without a veto.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.negatives_truth import scenes
from benchmarks.score_scenes import pairs, trained
from demo.judging import is_true
from demo.scenes import Scene
from pairloom.table import Array, Blob
from schemas.score import SCORE
from stages import score
from stages.negatives import Beside, Config, mine

SHARES = (0.9, 0.7, 0.5, 0.3, 0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=1500)
    parser.add_argument("--held-out", type=int, default=300)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--top-k", type=int, default=30)
    arguments = parser.parse_args()
    made, flat, names = scenes(arguments.scenes)
    texts = [flat[start : start + 5] for start in range(0, len(flat), 5)]
    cut = arguments.scenes - arguments.held_out
    with tempfile.TemporaryDirectory() as room:
        model = trained(Path(room), made, texts, cut, arguments.steps)
        beside, own = vectors(model, made[cut:], texts[cut:], names[5 * cut :: 5])
    asked, images = flat[5 * cut :], names[5 * cut :]
    print(f"{arguments.held_out} scenes, {len(asked)} captions, top_k {arguments.top_k}, {arguments.steps} steps")
    print("| own captions above the threshold | false | lists with one | good that the veto takes |\n|---|---|---|---|")
    every = dict(zip(images[::5], made[cut:], strict=True))
    good: set[tuple[int, str]] = set()
    for share in (None, *SHARES):
        rule: dict[str, Any] = {"top_k": arguments.top_k}
        if share is not None:
            rule |= {"veto": "score", "veto_similarity": float(np.quantile(own, 1 - share))}
        found = mine(asked, images, config=Config(**rule), beside=beside)["negatives"].to_pylist()
        told = [(place, one["text"]) for place, each in enumerate(found) for one in each]
        false = [is_true(text, every[images[place]]) for place, text in told]
        good = good or {one for one, wrong in zip(told, false, strict=True) if not wrong}
        lists = len({place for (place, _), wrong in zip(told, false, strict=True) if wrong}) / len(found)
        taken = "" if share is None else f"{len(good - set(told)) / len(good):.1%}"
        print(f"| {share or 'no veto'} | {np.mean(false):.2%} | {lists:.1%} | {taken} |", flush=True)


def vectors(model: Path, made: list[Scene], texts: list[list[str]], names: list[str]) -> tuple[Beside, Array]:
    """(the vectors of captions and pictures, the similarity of each caption to its own picture)."""
    config = score.Config(model=str(model), device="cpu", image_embedding=True, text_embedding=True)
    table, rejects = score.process(pairs(made, texts), score.setup(config, Path()))
    assert not len(rejects), "composed pictures can be read"
    kinds = [SCORE.column(name).type for name in ("image_embedding", "text_embedding")]
    pictures, captions = (
        kind.unpack(table[name])
        for kind, name in zip(kinds, ("image_embedding", "text_embedding"), strict=True)
        if isinstance(kind, Blob)
    )
    width = len(pictures[0])
    own = np.concatenate(table["similarity"].to_pylist())
    return Beside(None, np.concatenate(captions).reshape(-1, width), dict(zip(names, pictures, strict=True))), own


if __name__ == "__main__":
    main()

"""What similarity to the image costs beside similarity to one caption (InterBERT's rule), in processor time.

python -m benchmarks.negatives_rules [--captions 100000] [--images 2000] [--rounds 3]

Made-up captions, five an image; the captions of some images are mined among all, in one process and one thread, with
the code compiled before. The peer is the same search by InterBERT's rule. The rules take turns, and the fastest round
of each counts, as other programs on the machine only add.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pyarrow as pa

from benchmarks.captions_text import made_up
from stages.negatives import Config, mine
from stages.negatives.captions import table_of
from stages.negatives.inverted import build
from stages.negatives.kept import mine_kept

EACH = 5  # captions an image
RULES = {
    "interbert": Config(against="caption", distinct=False, train_only=False),
    "image": Config(),
    "image, veto captions": Config(veto="captions"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captions", type=int, default=100_000)
    parser.add_argument("--images", type=int, default=2000, help="whose captions are mined")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    texts = made_up(arguments.captions)
    owners = np.arange(len(texts)) // EACH
    ids = pa.array([f"{owner:09d}" for owner in owners])
    table = table_of(ids, np.arange(len(texts)) % EACH, texts, [None] * len(texts))
    index = build(table, Config(), part=len(table))
    chosen = np.linspace(0, owners[-1] - 1, arguments.images).astype(np.int64)
    rows = (chosen[:, None] * EACH + np.arange(EACH)).ravel()
    print(f"{len(texts):,} captions of {owners[-1] + 1:,} images, {len(rows):,} mined")
    seconds: dict[str, list[float]] = {name: [] for name in RULES}
    for config in RULES.values():
        mine(["a dog", "a red dog"], ["a", "b"], config=config)  # compiles
    for _ in range(arguments.rounds):
        for name, config in RULES.items():
            began = time.process_time()
            found = mine_kept(index, 0, rows, config).found
            seconds[name].append(time.process_time() - began)
            print(f"{name}: {seconds[name][-1]:.2f} CPU s, {found.counts.sum():,} negatives", flush=True)
    peer = min(seconds["interbert"])
    for name, used in seconds.items():
        each = f"{1e6 * min(used) / len(rows):.0f} µs a caption, {min(used) / peer:.2f} × InterBERT's"
        print(f"{name}: {min(used):.2f} CPU s, {each}")


if __name__ == "__main__":
    main()

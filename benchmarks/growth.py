"""Claim: with `idf: frozen`, adding 1 % of new captions costs far less than mining all again where the search is dear.

python -m benchmarks.growth [--captions 200000] [--shards 100]

The stage `negatives` as `dvc repro` runs it, in one process: all shards at once, and then one shard more. Made-up
captions with stop words, five an image, seed 0. The peer is the same stage mining everything again; both write the same
lists (their bytes are compared by tests/stages/negatives/test_growth.py). All shards are written anew, because a
quarter of all lists get a new member; docs/explanation/negatives.md says what that costs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.captions_text import made_up
from pipeline.config import RunConfig
from pipeline.executor import Options, run_stage
from schemas.pairs import CAPTION, PAIRS
from stages.negatives import Config
from tests.building import numbered, write_table

A_PICTURE = 5  # captions


def pairs(texts: list[str], first: int) -> pa.Table:
    """Images with five of these captions each. The pictures themselves are empty."""
    images = len(texts) // A_PICTURE
    captions = [
        [{"text": text, "original": text, "lang": "en"} for text in texts[at * A_PICTURE : (at + 1) * A_PICTURE]]
        for at in range(images)
    ]
    sides: Any = dict.fromkeys(("width", "height", "original_width", "original_height"), [64] * images)
    return PAIRS.table(
        image_id=[(first + at).to_bytes(16, "big") for at in range(images)],
        image=[b""] * images,
        format=["png"] * images,
        url=["http://host/"] * images,
        sha256=[bytes(32)] * images,
        phash=np.zeros(images, np.uint64),
        captions=pa.array(captions, pa.list_(CAPTION)),
        extra=[[]] * images,
        **sides,
    )


def shards(texts: list[str], number: int) -> Iterator[pa.Table]:
    """The captions cut into so many shards."""
    size = len(texts) // number // A_PICTURE * A_PICTURE
    for shard in range(number):
        yield pairs(texts[shard * size : (shard + 1) * size], shard * size)


def curated(data: Path, tables: list[pa.Table]) -> None:
    """A finished table `curate` of these shards."""
    write_table(data / "curate", PAIRS, numbered(tables), "curate")


def mined(data: Path, tables: list[pa.Table], config: Config) -> float:
    """Processor seconds of the stage on these shards."""
    curated(data, tables)
    start = time.process_time()
    run_stage("negatives", config, data, Options(RunConfig(cluster="inline")))
    return time.process_time() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=int, default=200_000)
    parser.add_argument("--shards", type=int, default=100, help="of which the last is added afterwards")
    arguments = parser.parse_args()
    tables = list(shards(made_up(arguments.captions), arguments.shards))
    frozen, again = Config(idf="frozen", near_distance=None), Config(near_distance=None)
    with tempfile.TemporaryDirectory() as folder:
        mined(Path(folder) / "warm", tables[:1], again)  # compiles
        mined(Path(folder) / "grown", tables[:-1], frozen)
        added = mined(Path(folder) / "grown", tables, frozen)
        full = mined(Path(folder) / "full", tables, again)
    share = 100 / arguments.shards
    print(
        f"{arguments.captions:,} captions in {arguments.shards} shards: all {full:.1f} s CPU; the last {share:.1f} % "
    )
    print(f"added to the others: {added:.1f} s CPU, {added / full:.1%} of mining all again ({full / added:.1f}×)")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Do column families need files of their own? Bytes that a recipe's columns make the kernel hand over, of one shard.

`python -m benchmarks.projection [--rows 320]`: read calls of one process, counted by Linux (/proc/self/io).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.loader import make_records, write_ours

FAMILIES = {
    "text": ("image_id", "captions", "negatives", "tags"),
    "pixels": ("image_id", "image", "captions"),
    "regions": ("image_id", "num_regions", "boxes", "class_scores", "features", "captions"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=320)
    with tempfile.TemporaryDirectory() as folder:
        write_ours(Path(folder), make_records(parser.parse_args().rows))
        shard = next(Path(folder).glob("*.parquet"))
        print(f"{shard.stat().st_size:,} bytes in the shard")
        for name, columns in FAMILIES.items():
            alone = Path(folder) / f"{name}.alone"
            pq.write_table(pq.read_table(shard, columns=list(columns)), alone, compression="NONE", use_dictionary=False)
            before = read_bytes()
            pq.read_table(shard, columns=list(columns))
            read = read_bytes() - before
            print(f"{name:8} reads {read:12,} bytes, a file of its own has {alone.stat().st_size:12,}: "
                  f"{read / alone.stat().st_size:.3f}")  # fmt: skip


def read_bytes() -> int:
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("rchar")).split()[1])


if __name__ == "__main__":
    main()

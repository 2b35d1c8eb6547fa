"""`pairloom export` with several processes, beside one: seconds by the clock, and how many times as fast.

    python -m benchmarks.exporting --pictures 800 --workers 1,2 --layouts lxmert-tsv,uniter-lmdb-compressed

Nothing is read back. The bytes are compared: they must be the same for any number of processes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks import features
from pipeline.features import incoming, outgoing


def table(root: Path, pictures: int) -> Path:
    """A table of regions of so many pictures."""
    features.write("vilbert-lmdb", root / "in", pictures)
    asked = incoming.Asked(
        layout="vilbert-lmdb", path=root / "in", out=root / "data", source="made", rows_per_shard=100, quiet=True
    )
    return incoming.take(asked).tables["regions"]


def seconds(source: Path, layout: str, out: Path, workers: int) -> float:
    start = time.monotonic()
    asked = outgoing.Asked(source=source, layout=layout, out=out, check=False, workers=workers, quiet=True)
    outgoing.export(asked)
    return time.monotonic() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=800)
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--layouts", default="lxmert-tsv,uniter-lmdb-compressed")
    arguments = parser.parse_args()
    counts = [int(count) for count in arguments.workers.split(",")]
    with tempfile.TemporaryDirectory(prefix="exporting-") as name:
        root = Path(name)
        source = table(root, arguments.pictures)
        print(f"{'layout':24} {'workers':>8} {'seconds':>8} {'times':>8}")
        for layout in arguments.layouts.split(","):
            alone, sums = 0.0, set[str]()
            for count in counts:
                out = root / f"{layout}-{count}"
                took = seconds(source, layout, out, count)
                alone = alone or took
                sums.add((out / outgoing.LIST).read_text(encoding="utf-8"))
                print(f"{layout:24} {count:8} {took:8.1f} {alone / took:8.2f}", flush=True)
            if len(sums) > 1:
                raise SystemExit(f"{layout}: other bytes with other numbers of processes")


if __name__ == "__main__":
    main()

"""How long it takes to open a folder of very many shards: by its counts, and by the index of each shard.

`python -m benchmarks.loader_opening [--shards 2000 20000 100000] [--remote]`: one shard of 9 images under many names
(hard links), a manifest and counts. Each opening is a process of its own, up to the order of all rows. `--remote` asks
a server on loopback for the same folder, with nothing in the cache. The peer is the way without counts.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from pairloom.store import counts, index
from pairloom.store.folder import ASIDE, MANIFEST, open_folder
from pairloom.store.manifest import manifest_files
from pairloom.store.writing import write_counts
from tests.pairloom.loader.loading import write_folder
from tests.pairloom.loader.test_remote import started

LINKS = 60_000  # to one file, which ext4 allows
OPEN = """
import sys, time
from pathlib import Path
from pairloom.loader.options import Options
from pairloom.loader.order import Order
from pairloom.loader.rows import open_rows
began = time.perf_counter()
place, cache = sys.argv[1:]
rows = open_rows(place, "train", ("captions", "image_id"), ("en",), Options(cache=Path(cache)))
order = Order(0, rows.sizes(), 8)
print(time.perf_counter() - began, hash(rows.sizes()))
"""


def many(folder: Path, shards: int) -> Path:
    """One shard under so many names."""
    made = write_folder(folder / "shards", (9,))
    opened = open_folder(made)
    for number in range(1, shards):
        for name_of in ("{}.parquet".format, index.name_of):
            first, this = (made / name_of(f"train-{one:05d}") for one in (number // LINKS * LINKS, number))
            if this == first:
                shutil.copy(made / name_of("train-00000"), this)
            else:
                os.link(first, this)
    entries = [replace(opened.shards[0], name=f"train-{number:05d}") for number in range(shards)]
    text, beside = manifest_files(opened.header, entries)
    (made / MANIFEST).write_text(text)
    for name, content in beside.items():
        (made / ASIDE / name).write_bytes(content)
    write_counts(made, entries)
    return made


def opened(place: str, cache: Path) -> tuple[float, str]:
    """Seconds, and a hash of what was found."""
    done = subprocess.run([sys.executable, "-c", OPEN, place, str(cache)], check=True, capture_output=True, text=True)
    seconds, found = done.stdout.split()
    return float(seconds), found


def measured(folder: Path, shards: int, remote: bool) -> None:
    made = many(folder, shards)
    by_counts, found = opened(str(made), folder / "cache")
    line = f"{shards:>7,} shards: {by_counts:6.2f} s by counts"
    if remote:
        server = started(folder)
        away, also = opened(f"http://127.0.0.1:{server.server_port}/shards", folder / "cache")
        server.shutdown()
        assert also == found
        line += f", {away:6.2f} s from a server"
    (made / counts.NAME).unlink()
    by_index, also = opened(str(made), folder / "cache")
    kept, _ = opened(str(made), folder / "cache")
    assert also == found
    print(f"{line}; {by_index:7.2f} s by indices, {by_index / by_counts:.0f} times as long; {kept:.2f} s again")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shards", type=int, nargs="+", default=[2_000, 20_000, 100_000])
    parser.add_argument("--remote", action="store_true")
    arguments = parser.parse_args()
    for shards in arguments.shards:
        folder = Path(tempfile.mkdtemp())
        measured(folder, shards, arguments.remote)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()

"""`pairloom import` from a folder, a tar and Parquet beside a bare loop, webdataset's reader, and the loopback web.

    python -m benchmarks.sources --rows 2000
    python -m benchmarks.sources --rows 200000 --small --only tar     # memory of a tar of 400,000 members

The pictures are those of benchmarks/download.py, stored at 256 pixels and quality 92. The bare loop reads each file,
decodes it with OpenCV, shrinks it by area and encodes it, in this process, and does nothing else: half a JPEG comes out
grey, and a turned one stays turned. The careful loop does what a careful user adds: it refuses pictures that are too
large or damaged, turns them upright, and hashes what came and what is stored. webdataset's reader gives the bodies of
the tar to the bare loop. CPU seconds are those of the whole command and its children. Second figures leave out what an
import of START pictures takes, which is nearly all starting up, and which loops in this process don't have.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.download import QUALITY, SIDE, Task, certificate, line, ours, web
from benchmarks.measuring import Cost, run
from benchmarks.web import Profile, pool
from pairloom.store.folder import open_folder

KINDS = {"folder": "folder", "tar": "webdataset", "parquet": "hf"}  # what is written -> --as
GROUP_ROWS = 100  # of the Parquet file, as datasets writes pictures
HOSTS = 200
START = 20  # pictures of an import that shows what starting up costs
MOST_PIXELS = 89_000_000


def write(folder: Path, kind: str, bodies: list[bytes], rows: int, name: str | None = None) -> Path:
    """The pictures with a caption each, in one of the layouts."""
    place = folder / (name or kind)
    place.mkdir()
    if kind == "folder":
        for row in range(rows):
            (place / f"{row:08d}.jpg").write_bytes(bodies[row % len(bodies)])
            (place / f"{row:08d}.txt").write_text(f"picture {row}")
    elif kind == "tar":
        with tarfile.open(place / "00000.tar", "w") as tar:
            for row in range(rows):
                for ending, body in (("jpg", bodies[row % len(bodies)]), ("txt", f"picture {row}".encode())):
                    facts = tarfile.TarInfo(f"{row:08d}.{ending}")
                    facts.size = len(body)
                    tar.addfile(facts, BytesIO(body))
                    tar.members = []  # type: ignore[attr-defined]  # or it keeps all of them
    else:
        schema = pa.schema(
            [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("text", pa.string())]
        )
        with pq.ParquetWriter(place / "train-00000.parquet", schema) as writer:
            for start in range(0, rows, GROUP_ROWS):
                group = range(start, min(rows, start + GROUP_ROWS))
                images = [{"bytes": bodies[row % len(bodies)], "path": None} for row in group]
                texts = [f"picture {row}" for row in group]
                writer.write_table(pa.table({"image": images, "text": texts}, schema=schema))
    return place


def imported(place: Path, kind: str, out: Path) -> tuple[Cost, int]:
    """What `pairloom import` took, and how many pictures it stored."""
    cost = run(
        [sys.executable, "-m", "pipeline.cli", "import", str(place), "--as", KINDS[kind], "--out", str(out), "--quiet",
         "--max-side", str(SIDE), "--set", f"download.quality={QUALITY}", "--cluster", "inline"]
    )  # fmt: skip
    return cost, open_folder(out / "download").rows


def loop(bodies: Iterable[bytes]) -> tuple[Cost, int]:
    """Decode, shrink and encode each, with one thread."""
    import cv2

    cv2.setNumThreads(1)
    start, cpu, count = time.monotonic(), time.process_time(), 0
    for count, body in enumerate(bodies, 1):  # noqa: B007  # how many there were
        image = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        scale = min(1.0, SIDE / max(image.shape[:2]))
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        cv2.imencode(".jpg", cv2.resize(image, size, interpolation=cv2.INTER_AREA), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return Cost(time.monotonic() - start, time.process_time() - cpu), count


def careful(bodies: Iterable[bytes]) -> tuple[Cost, int]:
    """The same with the checks that are needed before anybody trains on it."""
    import cv2
    import simplejpeg  # type: ignore[import-untyped]

    cv2.setNumThreads(1)
    start, cpu, count = time.monotonic(), time.process_time(), 0
    for count, body in enumerate(bodies, 1):  # noqa: B007  # how many there were
        hashlib.sha256(body).digest()
        with Image.open(BytesIO(body)) as opened:  # reads the header alone
            assert opened.width * opened.height <= MOST_PIXELS
            turn = opened.getexif().get(0x0112, 1)
        image = simplejpeg.decode_jpeg(body, "BGR", strict=True)  # strict: or what is missing comes out grey
        assert turn == 1
        scale = min(1.0, SIDE / max(image.shape[:2]))
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        _, stored = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        hashlib.sha256(stored.tobytes()).digest()
    return Cost(time.monotonic() - start, time.process_time() - cpu), count


def files(place: Path) -> Iterator[bytes]:
    yield from (path.read_bytes() for path in sorted(place.glob("*.jpg")))


def samples(place: Path) -> Iterator[bytes]:
    import webdataset

    urls = sorted(map(str, place.glob("*.tar")))
    yield from (sample["jpg"] for sample in webdataset.WebDataset(urls, shardshuffle=False))


def from_web(folder: Path, rows: int, small: bool) -> tuple[Cost, int]:
    """The same pictures through `pairloom download`, from loopback hosts."""
    profile = Profile(small=small, certificate=certificate(folder, HOSTS))
    task = Task(folder, rows, HOSTS, profile, 256)
    task.write_list()
    with web(profile):
        return ours(task)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--small", action="store_true", help="pictures of 1 KB")
    parser.add_argument("--only", choices=tuple(KINDS), help="this kind of source, and nothing to compare with")
    arguments = parser.parse_args()
    packages = ", ".join(f"{name} {version(name)}" for name in ("pillow", "opencv-python-headless", "webdataset"))
    print(f"{arguments.rows:,} pictures; {packages}; load {os.getloadavg()[0]:.1f}", flush=True)
    bodies = pool(arguments.small)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found: dict[str, tuple[Cost, int]] = {}
        for kind in [arguments.only] if arguments.only else KINDS:
            place = write(folder, kind, bodies, arguments.rows)
            if not arguments.only and kind == "folder":
                found |= {"bare loop": loop(files(place)), "careful loop": careful(files(place))}
                found["starting up"] = imported(write(folder, "folder", bodies, START, "start"), kind, folder / "out")
            elif not arguments.only and kind == "tar":
                found["webdataset"] = loop(samples(place))
            found[kind] = imported(place, kind, folder / f"out-{kind}")
        if not arguments.only:
            found["web"] = from_web(folder, arguments.rows, arguments.small)
    report(found)


def report(found: dict[str, tuple[Cost, int]]) -> None:
    """Each with its share of both loops' pictures a CPU second: in all, and without starting up."""
    rates = {title: images / cost.cpu_s for title, (cost, images) in found.items()}
    start = found.pop("starting up", None)
    for title, (cost, images) in found.items():
        print(line(title, cost, images), flush=True)
        if start is None or title in ("bare loop", "careful loop"):
            continue
        after = rates[title] if title == "webdataset" else (images - START) / (cost.cpu_s - start[0].cpu_s)
        for peer in ("bare loop", "careful loop"):
            print(f"    {rates[title] / rates[peer]:.2f} of the {peer}, {after / rates[peer]:.2f} without starting up")


if __name__ == "__main__":
    main()

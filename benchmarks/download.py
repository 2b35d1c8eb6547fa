"""Images a CPU second of `pairloom download` against img2dataset's command and plain OpenCV, on the same loopback list.

    python -m benchmarks.download --rows 2000 [--hosts 200] [--drip 10 --hang 5] [--alone]

Same list, same size (the longer side 256), same quality (92), all guards of ours on. img2dataset gets what it needs to
fetch from loopback (it has no guard) and writes files. CPU seconds are those of the command and all its children; the
server's are not counted. OpenCV decodes, shrinks by area and encodes the same pictures in this process.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.web import host, kind, pool

PORT = 8123
SIDE, QUALITY = 256, 92


@dataclass(frozen=True)
class Cost:
    """What a command took."""

    wall_s: float
    cpu_s: float
    images: int

    def line(self, name: str) -> str:
        rate = f"{self.images / self.cpu_s:7.0f} images a CPU second"
        return f"{name:14}{self.images:8} images {self.wall_s:7.1f} s wall {self.cpu_s:7.1f} s CPU {rate}"


@contextlib.contextmanager
def web(drip: int, hang: int) -> Iterator[None]:
    command = [sys.executable, "-m", "benchmarks.web", str(PORT), str(drip), str(hang)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield
    finally:
        process.kill()
        process.wait()


def write_list(path: Path, rows: int, hosts: int) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["url", "caption"])
        writer.writerows([f"http://{host(row % hosts)}:{PORT}/{row}.jpg", f"picture {row}"] for row in range(rows))


def measured(command: list[str], images: Any) -> Cost:
    """Run a command to its end; images() counts what it stored."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(time.monotonic() - start, cpu, images())


def ours(folder: Path, hosts: int) -> Cost:
    settings = {
        "download": {"allow_hosts": [host(number) for number in range(hosts)], "per_host_rate": 1000.0},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(settings))
    command = [
        sys.executable,
        "-m",
        "pipeline.cli",
        "download",
        str(folder / "list.csv"),
        "--out",
        str(folder / "ours"),
    ]
    options = ["--params", str(folder / "params.yaml"), "--max-side", str(SIDE), "--cluster", "inline", "--quiet"]

    def images() -> int:
        from schemas.folder import open_folder

        return open_folder(folder / "ours" / "pairs").rows

    return measured([*command, *options], images)


def theirs(folder: Path) -> Cost:
    options = {
        "url_list": folder / "list.csv",
        "input_format": "csv",
        "url_col": "url",
        "caption_col": "caption",
        "output_folder": folder / "theirs",
        "processes_count": 2,
        "thread_count": 64,
        "image_size": SIDE,
        "resize_mode": "keep_ratio_largest",
        "resize_only_if_bigger": True,
        "encode_quality": QUALITY,
        "number_sample_per_shard": 1000,
    }
    plain = {name: _plain(value) for name, value in options.items()}
    call = f"from img2dataset import download; download(**{plain})"
    return measured([sys.executable, "-c", call], lambda: len(list((folder / "theirs").rglob("*.jpg"))))


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def opencv(pictures: int) -> Cost:
    import cv2

    start, cpu = time.monotonic(), time.process_time()
    cv2.setNumThreads(1)
    for number in range(pictures):
        image = cv2.imdecode(np.frombuffer(pool()[number % len(pool())], np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        scale = SIDE / max(image.shape[:2])
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        cv2.imencode(".jpg", cv2.resize(image, size, interpolation=cv2.INTER_AREA), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return Cost(time.monotonic() - start, time.process_time() - cpu, pictures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--drip", type=int, default=0, help="percent of hosts that drip")
    parser.add_argument("--hang", type=int, default=0, help="percent of hosts that never answer")
    parser.add_argument("--alone", action="store_true", help="leave img2dataset out")
    arguments = parser.parse_args()
    bad = sum(kind(host(n), arguments.drip, arguments.hang) != "good" for n in range(arguments.hosts))
    print(f"{arguments.rows} rows of {arguments.hosts} hosts, {bad} of them bad; img2dataset {version('img2dataset')}")
    pool()
    plain = opencv(200)
    with tempfile.TemporaryDirectory() as name, web(arguments.drip, arguments.hang):
        folder = Path(name)
        write_list(folder / "list.csv", arguments.rows, arguments.hosts)
        costs = {"pairloom": ours(folder, arguments.hosts)}
        if not arguments.alone:
            costs["img2dataset"] = theirs(folder)
    for title, cost in {**costs, "plain OpenCV": plain}.items():
        print(cost.line(title))
    rate = {title: cost.images / cost.cpu_s for title, cost in {**costs, "plain": plain}.items()}
    for title in (other for other in rate if other != "pairloom"):
        print(f"pairloom / {title}: {rate['pairloom'] / rate[title]:.2f} images a CPU second")


if __name__ == "__main__":
    main()

"""`pairloom download` against img2dataset's command and plain OpenCV, on the same list from the project's own web.

    python -m benchmarks.download --rows 4000                                  # the comparison
    python -m benchmarks.download --rows 4000 --drip 10 --hang 5 --dead 5 --alone   # what bad hosts cost
    python -m benchmarks.download --rows 4000 --connections 1000 --latency 2000 --alone
    python -m benchmarks.download --rows 1000000 --small --alone   # memory of a long list

Same list, same size (the longer side 256), same quality (92), all guards of ours on, half of the hosts with TLS.
img2dataset needs nothing to fetch from loopback (it has no guard) and writes files. CPU seconds are those of the
command and its children, from start to end. The web's are not counted. OpenCV decodes, shrinks by area and encodes the
same pictures in this process, one after another. --alone leaves the other two out.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.measuring import Cost, run
from benchmarks.web import Profile, host, pool
from pairloom.store.folder import open_folder

PORT = 8123
SIDE, QUALITY = 256, 92


@dataclass(frozen=True)
class Task:
    """One list on one web."""

    folder: Path
    rows: int
    hosts: int
    profile: Profile
    connections: int

    @property
    def list(self) -> Path:
        return self.folder / "list.csv"

    def write_list(self) -> None:
        with self.list.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["url", "caption"])
            bases = [self.profile.base(host(number), PORT) for number in range(self.hosts)]
            writer.writerows([f"{bases[row % self.hosts]}/{row}.jpg", f"picture {row}"] for row in range(self.rows))


@contextlib.contextmanager
def web(profile: Profile) -> Iterator[None]:
    command = [sys.executable, "-m", "benchmarks.web", str(PORT), json.dumps(asdict(profile))]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for _ in range(profile.processes):
            assert process.stdout.readline() == "ready\n"
        yield
    finally:
        process.communicate()  # closes its standard input, and so ends it


def certificate(folder: Path, hosts: int) -> str:
    """A PEM file with the key and certificate of all hosts, signed by itself."""
    names = ",".join(f"IP:{host(number)}" for number in range(hosts))
    config = folder / "openssl.cnf"
    config.write_text(f"[req]\ndistinguished_name=dn\nx509_extensions=x\n[dn]\n[x]\nsubjectAltName={names}\n")
    key, pem = folder / "key.pem", folder / "web.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=benchmark", "-config", config, "-keyout", key, "-out", pem],
        check=True, capture_output=True,
    )  # fmt: skip
    pem.write_text(pem.read_text() + key.read_text())
    return str(pem)


def ours(task: Task) -> tuple[Cost, int]:
    """What `pairloom download` took, and how many pictures it stored."""
    settings: dict[str, Any] = {
        "allow_hosts": [host(number) for number in range(task.hosts)],
        "per_host_rate": 1000.0,
        "connections": task.connections,
        "contact": "benchmark@example.org",
        "quality": QUALITY,
    }
    (task.folder / "params.yaml").write_text(yaml.safe_dump({"download": settings}))
    out = task.folder / "ours"
    cost = run(
        [sys.executable, "-m", "pipeline.cli", "download", str(task.list), "--out", str(out), "--quiet",
         "--params", str(task.folder / "params.yaml"), "--max-side", str(SIDE), "--cluster", "inline"],
        {"SSL_CERT_FILE": task.profile.certificate or ""},
    )  # fmt: skip
    return cost, open_folder(out / "download").rows


def theirs(task: Task) -> tuple[Cost, int]:
    """What img2dataset's command took, and how many pictures it stored."""
    options: dict[str, Any] = {
        "url_list": task.list,
        "input_format": "csv",
        "url_col": "url",
        "caption_col": "caption",
        "output_folder": task.folder / "theirs",
        "processes_count": 2,
        "thread_count": 64,
        "image_size": SIDE,
        "resize_mode": "keep_ratio_largest",
        "resize_only_if_bigger": True,
        "encode_quality": QUALITY,
        "number_sample_per_shard": 1000,
        "enable_wandb": False,
    }
    given = [f"--{name}={value}" for name, value in options.items()]
    command = [sys.executable, "-c", "from img2dataset.main import main; main()", *given]
    cost = run(command, {"SSL_CERT_FILE": task.profile.certificate or "", "NO_ALBUMENTATIONS_UPDATE": "1"})
    return cost, len(list((task.folder / "theirs").rglob("*.jpg")))


def opencv(bodies: list[bytes], pictures: int) -> tuple[Cost, int]:
    import cv2

    cv2.setNumThreads(1)
    start, cpu = time.monotonic(), time.process_time()
    for number in range(pictures):
        image = cv2.imdecode(np.frombuffer(bodies[number % len(bodies)], np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        scale = min(1.0, SIDE / max(image.shape[:2]))
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        cv2.imencode(".jpg", cv2.resize(image, size, interpolation=cv2.INTER_AREA), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return Cost(time.monotonic() - start, time.process_time() - cpu), pictures


def line(title: str, cost: Cost, images: int) -> str:
    wall, cpu = (f"{seconds:7.1f} s ({images / seconds:5.0f} /s)" for seconds in (cost.wall_s, cost.cpu_s))
    most = f"{cost.peak_mb:6.0f} MB {cost.connections:5} sockets {cost.threads:3} threads"
    return f"{title:14}{images:8} images, wall {wall}, CPU {cpu}, {most}"


def measured(arguments: argparse.Namespace, profile: Profile) -> dict[str, tuple[Cost, int]]:
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        profile = replace(profile, certificate=certificate(folder, arguments.hosts) if profile.tls else None)
        task = Task(folder, arguments.rows, arguments.hosts, profile, arguments.connections)
        task.write_list()
        with web(profile):
            found = {"pairloom": ours(task)}
            if not arguments.alone:
                found["img2dataset"] = theirs(task)
                found["plain OpenCV"] = opencv(pool(profile.small), min(arguments.rows, 1000))
    for title, (cost, images) in found.items():
        print(line(title, cost, images), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--tls", type=int, default=50, help="percent of hosts")
    parser.add_argument("--drip", type=int, default=0, help="percent of hosts that send a byte a second")
    parser.add_argument("--hang", type=int, default=0, help="percent of hosts that never answer")
    parser.add_argument("--dead", type=int, default=0, help="percent of hosts where nobody listens")
    parser.add_argument("--latency", type=int, default=0, help="milliseconds beside 5 to 80")
    parser.add_argument("--connections", type=int, default=256)
    parser.add_argument("--small", action="store_true", help="pictures of 1 KB")
    parser.add_argument("--servers", type=int, default=2, help="processes of the web")
    parser.add_argument("--alone", action="store_true", help="leave img2dataset and OpenCV out")
    parser.add_argument("--rounds", type=int, default=1, help="of everything; the median of the ratios counts")
    parser.add_argument("--folder", help="where the tables go (default: the system's temporary folder)")
    arguments = parser.parse_args()
    profile = Profile(
        drip=arguments.drip, hang=arguments.hang, dead=arguments.dead, tls=arguments.tls, small=arguments.small,
        latency_ms=arguments.latency, processes=arguments.servers,
    )  # fmt: skip
    kinds = [profile.kind(host(number)) for number in range(arguments.hosts)]
    said = ", ".join(f"{kinds.count(kind)} {kind}" for kind in ("good", "drip", "hang", "dead"))
    where = f"{arguments.hosts} hosts ({said}), {arguments.tls} % with TLS"
    print(f"{arguments.rows:,} rows of {where}; {versions()}", flush=True)
    compare([measured(arguments, profile) for _ in range(arguments.rounds)])


def compare(rounds: list[dict[str, tuple[Cost, int]]]) -> None:
    """Print the median ratio of images a CPU second to each of the others."""
    rates = [{title: images / cost.cpu_s for title, (cost, images) in found.items()} for found in rounds]
    for title in [other for other in rates[0] if other != "pairloom"]:
        ratios = [found["pairloom"] / found[title] for found in rates]
        every = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"pairloom / {title}: {statistics.median(ratios):.2f} images a CPU second (of {every})")


def versions() -> str:
    return ", ".join(
        f"{name} {version(name)}" for name in ("aiohttp", "pillow", "img2dataset", "opencv-python-headless")
    )


if __name__ == "__main__":
    main()

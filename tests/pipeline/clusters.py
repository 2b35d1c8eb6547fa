"""A real Dask cluster on loopback: a scheduler and workers, each a process of its own, as people start them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

CHECKOUT = Path(__file__).resolve().parents[2]
DASK = (sys.executable, "-m", "dask")
START_S = 60.0


class Cluster:
    """A scheduler, and the workers that were started for it. All end with the block."""

    def __init__(
        self, folder: Path, paths: Sequence[Path] = (CHECKOUT,), settings: Mapping[str, str] | None = None
    ) -> None:
        """paths: PYTHONPATH of the scheduler. settings: its settings of Dask, by the names of their variables."""
        self.folder = folder
        self._file = folder / "scheduler.json"
        self.processes: list[subprocess.Popen[bytes]] = []  # the workers
        self.scheduler = self._start(
            *("scheduler", "--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0"),
            *("--scheduler-file", str(self._file)),
            environment={"PYTHONPATH": os.pathsep.join(map(str, paths)), **(settings or {})},
        )

    @property
    def address(self) -> str:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self._file.exists() and (text := self._file.read_text(encoding="utf-8")):
                return str(json.loads(text)["address"])
            time.sleep(0.02)
        raise AssertionError("the scheduler did not start")

    def worker(
        self,
        *options: str,
        nanny: bool = False,
        paths: Sequence[Path] = (CHECKOUT,),
        prefix: Sequence[str] = (),
        cwd: Path | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a worker with one thread, unless the options say otherwise; paths: its PYTHONPATH."""
        kind = "--nanny" if nanny else "--no-nanny"
        arguments = ("worker", "--scheduler-file", str(self._file), "--nthreads", "1", "--no-dashboard", kind, *options)
        environment = {"PYTHONPATH": os.pathsep.join(map(str, paths))}
        self.processes.append(self._start(*arguments, prefix=prefix, environment=environment, cwd=cwd))
        return self.processes[-1]

    def _start(
        self,
        *arguments: str,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*prefix, *DASK, *arguments],
            cwd=cwd or self.folder,
            env={**os.environ, **(environment or {})},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end_workers()
        _end(self.scheduler)

    def end_workers(self) -> None:
        while self.processes:
            _end(self.processes.pop())


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)


def other_checkout(folder: Path) -> Path:
    """A checkout that differs from this one in a comment of one stage."""
    for room in CHECKOUT.iterdir():
        if (room / "__init__.py").exists() and room.name != "stages":
            (folder / room.name).symlink_to(room)
    shutil.copytree(CHECKOUT / "stages", folder / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "stages" / "tags.py").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    return folder


def other_package(folder: Path, name: str, version: str) -> Path:
    """A folder for PYTHONPATH in which a package says that it has this version."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    return folder


def without(folder: Path, packages: Sequence[str]) -> Path:
    """A folder for PYTHONPATH with which these packages cannot be imported."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {tuple(packages)!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Refuse())\n",
        encoding="utf-8",
    )
    return folder


MOUNTS = {
    "disk": 'mount -t tmpfs none "$1"',
    # all of the folder is seen, and what is written goes to a disk of its own
    "layer": "d=$(mktemp -d) && mount -t tmpfs none $d && mkdir $d/u $d/w && "
    'mount -t overlay none -o "lowerdir=$1,upperdir=$d/u,workdir=$d/w" "$1"',
    "file": 'mount --bind "$2" "$1"',
}


def apart(kind: str, place: Path, other: Path = Path()) -> tuple[str, ...]:
    """What goes before a command whose process has something of its own in this place; () if it can't be.

    kind: of MOUNTS. other: the file that it has there.
    """
    script = f'{MOUNTS[kind]} && shift 2 && exec "$@"'
    prefix = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, kind, str(place), str(other))
    try:
        works = subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        works = False
    return prefix if works else ()

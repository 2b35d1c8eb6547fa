"""A stage that runs on a dataset in a bucket, for tests, and the same on a disk for its bytes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from tests.bucket import Server, below, content, serving
from tests.pipeline.helpers import write_texts

HERE = Path(__file__).resolve().parents[2]
BUCKET, STAGE = "s3://pairs/d", "tests.pipeline.words"
TEXTS = [f"text {row}" if row % 7 else "reject" for row in range(48)]  # 12 shards, most with a row left out


@contextmanager
def emptied(folder: Path) -> Iterator[tuple[Server, Any]]:
    """A bucket on loopback. This process works in `folder`, and what is on its way lies in `folder/tmp`."""
    (folder / "tmp").mkdir()
    with pytest.MonkeyPatch.context() as patch, serving("pairs") as found:
        patch.chdir(folder)
        patch.setenv("TMPDIR", str(folder / "tmp"))
        patch.setattr(tempfile, "tempdir", None)
        patch.setattr("pairloom.store.bucket.PAUSE_S", 0.01)
        yield found


def listed(texts: list[str] = TEXTS) -> None:
    """The list in the bucket, as a disk has it in `here`."""
    write_texts(texts, Path("here"))
    assert main(["push", "here/urls", f"{BUCKET}/urls"]) == 0


def words(data: str, *options: str, **settings: object) -> list[str]:
    """The command line of the stage."""
    lines = "".join(f"\n  {key}: {value}" for key, value in settings.items()) or " {}"
    Path("words.yaml").write_text(f"words:{lines}\n", encoding="utf-8")
    cluster = () if "--cluster" in options else ("--cluster", "inline")
    return ["stage", STAGE, "--data", data, "--params", "words.yaml", *cluster, *options]


def on_disk(*options: str, **settings: object) -> dict[str, bytes]:
    """What the stage writes on a disk."""
    assert main(words("here", *options, **settings)) == 0
    return tables(below(Path("here")))


def in_bucket(client: Any) -> dict[str, bytes]:
    """The files of tables in the bucket."""
    return tables({key.removeprefix("d/"): body for key, body in content(client, "pairs").items()})


def tables(files: dict[str, bytes]) -> dict[str, bytes]:
    """Without what belongs to no table: indexes, locks, pictures of a demo, and the list's empty quarantine."""
    left_out = (".", "sample", "quarantine/sample")
    return {name: body for name, body in files.items() if not name.startswith(left_out)}


def puts(server: Server, kind: str = ".parquet") -> list[str]:
    """Which shards of the stage were put, in order of their names; kind: part of their paths."""
    paths = [path for method, path in server.asked if method == "PUT" and "/d/words/" in path]
    return sorted(path.rpartition("/")[2] for path in paths if kind in path)


@contextmanager
def held(server: Server, suffix: str) -> Iterator[None]:
    """What is put under this name waits for the end of the block."""
    ended = threading.Event()

    def wait(environ: Any, answer: Callable[[], Iterable[bytes]]) -> Iterable[bytes]:
        ended.wait(60)
        return answer()

    server.rule = lambda method, path: wait if method == "PUT" and path.endswith(suffix) else None
    try:
        yield
    finally:
        ended.set()
        server.rule = lambda method, path: None


def started(line: list[str]) -> subprocess.Popen[bytes]:
    """The command in a process group of its own."""
    command = [sys.executable, "-m", "pipeline.cli", *line, "--quiet"]
    environment = os.environ | {"PYTHONPATH": str(HERE)}  # where the stage of this test lies
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )


def wait_until(wanted: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 90
    while not wanted():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[0].decode()
        time.sleep(0.01)

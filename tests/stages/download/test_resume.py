"""The command as a user runs it: killed, interrupted, out of disk, below its floor, and tried again."""

from __future__ import annotations

import csv
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow.parquet as pq
import pytest
import yaml

from pairloom.extra import as_extra
from pairloom.store.folder import is_table, open_folder
from stages.download.spool import Spool, key_of
from tests.pipeline.helpers import hashes
from tests.stages.download.hostile import Answer, HostileServer, hang, in_turn, jpeg, reply
from tests.stages.download.warm import Warm

HERE = Path(__file__).resolve().parents[3]
ROWS, ROWS_PER_SHARD = 40, 16
DOWNLOAD = {
    "retries": 1,
    "backoff_s": 0.01,
    "per_host_rate": 1000.0,
    "max_side": 48,
    "min_success_rate": 0.2,
    "decoders": 1,
}


def slowly(answer: Answer, wait_s: float = 0.02) -> Answer:
    def late(connection: Any, path: str) -> None:
        time.sleep(wait_s)
        answer(connection, path)

    return late


def serve(server: HostileServer) -> None:
    """Pictures of many sizes. Every fifth is missing, every seventh fails."""
    for row in range(ROWS):
        picture = reply(jpeg(40 + row, 40, seed=row))
        answer = reply(status=404) if row % 5 == 4 else reply(status=503) if row % 7 == 6 else picture
        server.answers[f"/{row}"] = slowly(answer)


class Run:
    """A list and settings of its own, and the command on them."""

    def __init__(self, folder: Path, port: int, **settings: Any) -> None:
        self.folder, self.out, self.base = folder, folder / "out", f"http://127.0.0.1:{port}"
        folder.mkdir(exist_ok=True)
        with (folder / "list.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["url", "caption", "number"])
            writer.writerows([f"http://127.0.0.1:{port}/{row}", f"picture {row}", row] for row in range(ROWS))
        (folder / "params.yaml").write_text(yaml.safe_dump({"download": DOWNLOAD | settings}))
        self.command = [
            *(sys.executable, "-m", "pipeline.cli", "download", str(folder / "list.csv"), "--out", str(self.out)),
            *("--allow-host", f"127.0.0.1:{port}", "--params", str(folder / "params.yaml"), "--cluster", "inline"),
            *("--rows-per-shard", str(ROWS_PER_SHARD), "--json"),
        ]

    def start(self, command: list[str] | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command or self.command, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip

    def finish(self, command: list[str] | None = None, code: int = 0) -> dict[str, Any]:
        process = self.start(command)
        said, errors = process.communicate(timeout=120)
        assert process.returncode == code, errors
        result: dict[str, Any] = json.loads(said)
        return result

    def tables(self) -> dict[str, str]:
        """Hashes of all files, the quarantine's too, but locks and indexes."""
        return {name: digest for name, digest in hashes(self.out).items() if not name.startswith(".")}

    def left_out(self) -> list[dict[str, Any]]:
        """The rows of the quarantine, which say more of a difference than its hashes."""
        return [row for _, table in open_folder(self.out / "quarantine/download").tables() for row in table.to_pylist()]

    def noted(self) -> set[str]:
        """The paths whose outcome is noted or in a finished shard."""
        urls = [f"{self.base}/{row}" for row in range(ROWS)]
        known = set()
        for folder in (self.out / ".index/download").glob("*/partial/*"):
            with Spool(folder) as spool:
                known |= {url for url in urls if key_of(url, None) in spool}
        if is_table(self.out / "download"):
            for entry in open_folder(self.out / "download").shards:
                first = int(entry.name) * ROWS_PER_SHARD
                known |= set(urls[first : first + ROWS_PER_SHARD])
        return {urlsplit(url).path for url in known}


def wait_until(true: Callable[[], bool], alive: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true() and alive():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.005)


def reached(server: HostileServer, requests: int) -> bool:
    return len(server.requests) >= requests


def check_rounds(hostile: HostileServer, tmp_path: Path, rounds: int) -> None:
    serve(hostile)
    undisturbed = Run(tmp_path / "undisturbed", hostile.port)
    undisturbed.finish()
    asked_once = len(hostile.requests)
    chance = random.Random(7)
    with Warm() as warm:
        for number in range(rounds):
            hostile.requests.clear()
            run = Run(tmp_path / str(number), hostile.port)
            arguments, asked = run.command[3:], chance.randrange(2, asked_once - 4)
            process = warm.start(arguments)
            wait_until(partial(reached, hostile, asked), lambda: True)
            assert warm.kill(process) == -signal.SIGKILL
            noted = run.noted()
            hostile.requests.clear()
            warm.start(arguments)
            assert warm.code() == 0
            assert run.left_out() == undisturbed.left_out()
            assert run.tables() == undisturbed.tables()
            assert noted.isdisjoint(hostile.requests)
            assert not list((run.out / ".index").rglob("*.spool"))


@pytest.mark.crash
def test_kill_9_and_again_gives_the_bytes_of_an_undisturbed_run(hostile: HostileServer, tmp_path: Path) -> None:
    check_rounds(hostile, tmp_path, rounds=1)


@pytest.mark.crash
@pytest.mark.slow
def test_kill_9_at_eight_random_moments(hostile: HostileServer, tmp_path: Path) -> None:
    check_rounds(hostile, tmp_path, rounds=8)


@pytest.mark.crash
def test_kill_9_forgets_no_body_that_waits_for_a_decoder(hostile: HostileServer, tmp_path: Path) -> None:
    """While decoding is slower than the web, all rows but the one in the decoder are there when it is killed."""
    sent = []
    for row in range(ROWS):
        picture = reply(jpeg(1600 + row, 1200, seed=row))

        def counted(connection: Any, path: str, picture: Answer = picture) -> None:
            picture(connection, path)
            sent.append(path)

        hostile.answers[f"/{row}"] = counted
    undisturbed = Run(tmp_path / "undisturbed", hostile.port)
    undisturbed.finish()
    sent.clear()
    run = Run(tmp_path / "run", hostile.port)
    with Warm() as warm:
        process = warm.start(run.command[3:])
        wait_until(lambda: len(sent) == ROWS, lambda: True)
        time.sleep(0.3)  # until the last one is read
        assert warm.kill(process) == -signal.SIGKILL
        decoded = len(run.noted())
        hostile.requests.clear()
        warm.start(run.command[3:])
        assert warm.code() == 0
    assert decoded < ROWS - 1
    assert len([path for path in hostile.requests if path != "/robots.txt"]) <= DOWNLOAD["decoders"]
    assert run.tables() == undisturbed.tables()


@pytest.mark.crash
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_with_its_code(
    hostile: HostileServer, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    hostile.answers |= {f"/{row}": hang(hostile.closing) for row in range(ROWS)}
    run = Run(tmp_path / "run", hostile.port)
    process = run.start()
    wait_until(
        lambda: bool(set(hostile.requests) - {"/robots.txt"}), lambda: process.poll() is None
    )  # shards start in any order
    process.send_signal(number)
    start = time.monotonic()
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert "same command resumes" in errors
    assert time.monotonic() - start < 15
    assert not open_folder(run.out / "download").complete


def test_too_few_pictures_end_the_run_with_reasons_and_hosts(hostile: HostileServer, tmp_path: Path) -> None:
    serve(hostile)
    result = Run(tmp_path / "run", hostile.port, min_success_rate=0.9).finish(code=1)
    assert result["error"] == "RunError"
    assert "8 not-found" in result["what"]
    assert "127.0.0.1: 8 not-found" in result["what"]


def test_a_full_disk_ends_the_run_and_space_lets_it_go_on(hostile: HostileServer, tmp_path: Path) -> None:
    serve(hostile)
    run = Run(tmp_path / "run", hostile.port)
    limited = ["bash", "-c", 'trap "" XFSZ; ulimit -f 16; exec "$@"', "bash", *run.command]  # no file above 16 KiB
    result = run.finish(limited, code=1)
    assert result["error"] in ("MachineError", "StoreError")  # by who writes first, a row's note or the shard
    assert "free some space" in result["fix"]
    assert run.finish()["rows_in"] == ROWS


def test_retry_fetches_only_what_failed_and_gives_the_shard_as_if_it_had_worked_at_once(
    hostile: HostileServer, tmp_path: Path
) -> None:
    serve(hostile)
    run = Run(tmp_path / "run", hostile.port)
    run.finish()
    stamps = {file.name: file.stat().st_mtime_ns for file in (run.out / "download").glob("*.parquet")}
    failing = [row for row in range(ROWS) if row % 5 != 4 and row % 7 == 6]
    for row in failing:
        hostile.answers[f"/{row}"] = in_turn(reply(jpeg(40 + row, 40, seed=row)))
    hostile.requests.clear()
    retry = [*run.command[:3], "retry", str(run.out), "--reason", "5xx,timeout", "--cluster", "inline", "--json"]
    assert run.finish(retry)["retried"] == len(failing)
    assert sorted(set(hostile.requests)) == sorted(["/robots.txt", *(f"/{row}" for row in failing)])
    at_once = Run(tmp_path / "at-once", hostile.port)
    at_once.finish()
    assert run.tables() == at_once.tables()
    changed = {row // ROWS_PER_SHARD for row in failing}
    for file in (run.out / "download").glob("*.parquet"):
        assert (file.stat().st_mtime_ns != stamps[file.name]) == (int(file.stem) in changed)
    extra = pq.read_table(run.out / "download/00000.parquet", columns=["extra"])["extra"].to_pylist()
    assert extra[0] == as_extra({"number": "0"})

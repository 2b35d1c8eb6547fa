"""A list that has changed: only its new rows are fetched, and the tables are those of a download of the new list."""

from __future__ import annotations

import csv
import hashlib
import random
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pairloom import open_table
from pairloom.store.folder import open_folder
from pipeline.cli import main
from stages.download.spool import key_of
from tests.pipeline.helpers import hashes
from tests.stages.download.hostile import HostileServer, hang, jpeg, reply
from tests.stages.download.test_resume import wait_until
from tests.stages.download.warm import Warm

PICTURES, ROWS = 24, 20
Row = tuple[str, str, str]  # path of the picture, caption, checksum


@dataclass
class Web:
    """A server with `0.jpg` to `23.jpg` and what was asked of it."""

    server: HostileServer

    @property
    def asked(self) -> list[str]:
        """The paths of the pictures that it was asked for."""
        return sorted(path.removeprefix("/") for path in self.server.requests if path != "/robots.txt")

    def command(self, out: Path, rows: Sequence[Row], *settings: str, per_shard: int = 6) -> list[str]:
        """What downloads this list, which is written."""
        out.mkdir(exist_ok=True)
        with (out / "list.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["url", "caption", "checksum"])
            writer.writerows([self.server.url(f"/{path}"), caption, checksum] for path, caption, checksum in rows)
        self.server.requests.clear()
        always = (
            "per_host_rate=1000",
            "min_success_rate=0",
            "backoff_s=0.01",
            "decoders=1",
            "max_side=40",
            "retries=1",
        )
        options = [option for setting in (*always, *settings) for option in ("--set", f"download.{setting}")]
        command = ["download", str(out / "list.csv"), "--out", str(out), "--redo", "--quiet", "--cluster", "inline"]
        command += ["--allow-host", f"127.0.0.1:{self.server.port}", "--rows-per-shard", str(per_shard)]
        return [*command, *options]

    def download(self, out: Path, rows: Sequence[Row], *settings: str, per_shard: int = 6) -> list[str]:
        """Download a list. Returns the paths that it asked for."""
        assert main(self.command(out, rows, *settings, per_shard=per_shard)) == 0
        assert not list(out.glob(".index/download/*/earlier"))
        return self.asked


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    server = HostileServer()
    server.answers |= {f"/{n}.jpg": reply(jpeg(40 + n, 40, seed=n)) for n in range(PICTURES)}
    server.answers["/busy.jpg"] = reply(status=503)
    yield Web(server)
    server.close()


def listed(numbers: Sequence[int]) -> list[Row]:
    """Rows of these pictures. Every fifth is one that is missing."""
    return [(f"{n}.jpg" if n % 5 else f"missing-{n}.jpg", f"a thing of {n}", "") for n in numbers]


def tables(out: Path) -> dict[str, str]:
    return {name: sha for name, sha in hashes(out).items() if name.startswith(("download/", "quarantine/download/"))}


def check_change(web: Web, tmp_path: Path, old: Sequence[Row], new: Sequence[Row], per_shard: int) -> None:
    """That a list can be changed into another one at the cost of its new pictures."""
    web.download(tmp_path / "own", old)
    asked = web.download(tmp_path / "own", new, per_shard=per_shard)
    assert asked == sorted({path for path, *_ in new} - {path for path, *_ in old})
    web.download(tmp_path / "fresh", new, per_shard=per_shard)
    assert tables(tmp_path / "own") == tables(tmp_path / "fresh")


def test_new_rows_are_fetched_and_neither_their_neighbours_nor_changed_captions(web: Web, tmp_path: Path) -> None:
    old = listed(range(ROWS))
    new = [old[0], ("1.jpg", "another caption", ""), *listed([21, 25]), *old[2:7], *listed([23]), *old[8:]]
    check_change(web, tmp_path, old, new, per_shard=6)


@pytest.mark.parametrize("seed", range(3))
def test_any_change_costs_its_new_rows_alone(web: Web, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    old, new = (listed(chance.sample(range(PICTURES), chance.randrange(1, ROWS))) for _ in range(2))
    check_change(web, tmp_path, old, new, per_shard=chance.randrange(2, 9))


@pytest.mark.crash
def test_a_change_that_was_killed_is_taken_up_by_the_next(web: Web, tmp_path: Path) -> None:
    out, old = tmp_path / "own", listed(range(ROWS))
    web.download(out, old)
    web.server.answers["/slow.jpg"] = hang(web.server.closing)
    slow = ("slow.jpg", "it does not come before the kill", "")
    changed = [*listed([21]), *old[:9], *listed([22]), slow, *old[9:]]  # the second shard does not end
    with Warm() as warm:
        process = warm.start(web.command(out, changed))
        wait_until(lambda: "slow.jpg" in web.asked and _done(out) == ["00000"] and _noted(web, out), lambda: True)
        assert warm.kill(process) == -signal.SIGKILL
    last = [*listed([23, 21]), *old[:8], *listed([22]), *old[8:]]
    assert web.download(out, last) == ["23.jpg"]
    web.download(tmp_path / "fresh", last)
    assert tables(out) == tables(tmp_path / "fresh")


def _done(out: Path) -> list[str]:
    """The first shard, once it is finished."""
    return [entry.name for entry in open_folder(out / "download").shards][:1]


def _noted(web: Web, out: Path) -> bool:
    """Whether the new picture of the second shard is noted."""
    key = key_of(web.server.url("/22.jpg"), None)
    return any(key in file.read_bytes() for file in out.glob(".index/download/*/partial/00001/rows.spool"))


def test_a_damaged_shard_costs_its_own_rows_alone(web: Web, tmp_path: Path) -> None:
    old, out = listed(range(ROWS)), tmp_path / "own"
    web.download(out, old)
    shard = bytearray((out / "download/00001.parquet").read_bytes())
    pictures = next(
        column
        for column in map(pq.read_metadata(out / "download/00001.parquet").row_group(0).column, range(99))
        if column.path_in_schema == "image"
    )
    shard[pictures.data_page_offset + pictures.total_compressed_size // 2] ^= 1
    (out / "download/00001.parquet").write_bytes(shard)
    new = [*listed([23]), *old]
    assert {"23.jpg"} < set(web.download(out, new)) <= {path for path, *_ in [*listed([23]), *old[6:12]]}
    web.download(tmp_path / "fresh", new)
    assert tables(out) == tables(tmp_path / "fresh")


def test_settings_decide_what_is_asked_again(web: Web, tmp_path: Path) -> None:
    rows, out = listed(range(3)), tmp_path / "own"
    busy = ("busy.jpg", "it fails for now", "")
    web.download(out, [*rows, busy])
    assert web.download(out, [*rows, busy, *listed([3])]) == ["3.jpg"]  # failures stay as they are
    patient = "timeout_s=20"
    assert web.download(out, [*rows, busy], patient) == ["busy.jpg"] * 2  # a longer time may help this row alone
    every = sorted([*(path for path, *_ in rows), *["busy.jpg"] * 2])
    assert web.download(out, [*rows, busy], patient, "quality=80") == every


def test_a_checksum_is_held_against_what_is_there(web: Web, tmp_path: Path) -> None:
    rows, out = listed([1, 2, 3, 4]), tmp_path / "own"
    bodies = [jpeg(40 + n, 40, seed=n) for n in (1, 2, 3)]
    web.download(out, rows, "max_side=100")
    sums = [f"sha256:{hashlib.sha256(bodies[0]).hexdigest()}", f"md5:{hashlib.md5(bodies[1]).hexdigest()}"]
    sums += [f"sha256:{hashlib.sha256(b'another').hexdigest()}", ""]
    changed: list[Any] = [(*row[:2], checksum) for row, checksum in zip(rows, sums, strict=True)]
    assert web.download(out, changed, "max_side=100") == ["3.jpg"]
    left_out = [row for _, table in open_table(out / "quarantine/download").tables() for row in table.to_pylist()]
    assert [row["reason"] for row in left_out] == ["checksum"]
    assert web.download(out, [*listed([6]), *changed], "max_side=100") == ["6.jpg"]

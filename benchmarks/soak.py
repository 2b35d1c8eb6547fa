"""A long download from hosts of every hostile kind, killed three times: each row accounted for, no good one lost?

    python -m benchmarks.soak --rows 50000 --hosts 400 --minutes 30     # each of the two runs may take so long

The same list is downloaded twice by two workers: at once, and with three kills -9, one in each of the first three
quarters of the rows at a random time (--seed). It ends with exit code 1 unless every row is stored or quarantined for a
reason that its host's kind gives, every picture that can be had is stored, both tables are the same bytes, and memory
is flat: its most in the last third of the undisturbed run is at most 1.25 times that in the middle third. Prints
Markdown. benchmarks/soak_web.py has the kinds.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from benchmarks.download import versions
from benchmarks.soak_web import KINDS, address, kind_of, url
from pairloom.store.folder import Folder, is_table, open_folder

PORT = 8140
WORKERS, ROWS_PER_SHARD = 2, 200
SETTINGS = {
    "max_wait_s": 5.0,  # in place of 60: this is no night's work
    "max_host_s": 20.0,  # in place of 1800
    "min_success_rate": 0.0,
}


@dataclass
class Soak:
    """One list, and where it goes."""

    folder: Path
    rows: int
    hosts: int
    limit_s: float
    memory_mb: list[float] = field(default_factory=list)  # once a second, of the command and its children

    def write_list(self) -> None:
        with (self.folder / "list.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["url", "caption"])
            writer.writerows([url(row % self.hosts, row, PORT), f"picture {row}"] for row in range(self.rows))
        allowed = [address(host) for host in range(self.hosts)]
        (self.folder / "params.yaml").write_text(yaml.safe_dump({"download": {**SETTINGS, "allow_hosts": allowed}}))

    def start(self, out: Path) -> subprocess.Popen[bytes]:
        command = [
            *(sys.executable, "-m", "pipeline.cli", "download", str(self.folder / "list.csv"), "--out", str(out)),
            *("--params", str(self.folder / "params.yaml"), "--workers", str(WORKERS), "--quiet"),
            *("--rows-per-shard", str(ROWS_PER_SHARD)),
        ]
        with (self.folder / "log.txt").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def run(self, out: Path) -> float:
        """Download to the end, and watch memory. Returns how many seconds it took."""
        start, process = time.monotonic(), self.start(out)
        self.memory_mb = []
        while process.poll() is None:
            if time.monotonic() - start > self.limit_s:
                os.killpg(process.pid, signal.SIGKILL)
                sys.exit(f"it took more than {self.limit_s:.0f} s")
            with contextlib.suppress(psutil.NoSuchProcess):
                every = [(mine := psutil.Process(process.pid)), *mine.children(recursive=True)]
                self.memory_mb.append(sum(one.memory_info().rss for one in every) / 2**20)
            time.sleep(1)
        if process.returncode:
            sys.exit((self.folder / "log.txt").read_text()[-3000:])
        return time.monotonic() - start

    def kill(self, out: Path, share: float, after_s: float) -> int:
        """Start, and kill everything with -9 a while after this share of the rows lies in finished shards.

        How many rows do so then.
        """
        start, process = time.monotonic(), self.start(out)
        while _finished(out) < share * self.rows and time.monotonic() - start < self.limit_s:
            time.sleep(0.5)
        time.sleep(after_s)
        if process.poll() is not None:
            sys.exit("it ended before it was killed: take more rows")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return _finished(out)


def _finished(out: Path) -> int:
    table = out / "download"
    return sum(entry.rows_in for entry in open_folder(table).shards) if is_table(table) else 0


@contextlib.contextmanager
def web(counts: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "benchmarks.soak_web", str(PORT), str(counts)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield
    finally:
        process.communicate()


def outcomes(out: Path) -> dict[str, str | None]:
    """What became of each URL: a reason, or None where it is stored."""
    found: dict[str, str | None] = {}
    for _, table in open_folder(out / "download").tables(["url"]):
        found |= dict.fromkeys(table["url"].to_pylist())
    for _, table in open_folder(out / "quarantine/download").tables(["key", "reason"]):
        found |= dict(zip(table["key"].to_pylist(), table["reason"].to_pylist(), strict=True))
    return found


def faults(soak: Soak, ends: dict[str, str | None]) -> list[str]:
    """What is wrong with what became of the rows."""
    said = []
    for row in range(soak.rows):
        address, kind = url(row % soak.hosts, row, PORT), kind_of(row % soak.hosts)
        if address not in ends:
            said.append(f"{address} ({kind}) is neither stored nor quarantined")
        elif ends[address] not in KINDS[kind].ends:
            said.append(f"{address} ({kind}) ended as {ends[address] or 'stored'}")
    return said


def by_kind(soak: Soak, ends: dict[str, str | None]) -> list[str]:
    """The table's lines: how the rows of each kind ended."""
    hosts = Counter(kind_of(host) for host in range(soak.hosts))
    ended: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    for row in range(soak.rows):
        ended[kind_of(row % soak.hosts)][ends[url(row % soak.hosts, row, PORT)] or "stored"] += 1
    return [
        f"| {kind} | {hosts[kind]} | {sum(counted.values())} | "
        + ", ".join(f"{reason} {rows}" for reason, rows in counted.most_common())
        + " |"
        for kind, counted in ended.items()
    ]


def again(soak: Soak) -> str:
    """How many requests for rows of hosts that simply answer were for a row that was asked for before."""
    asked: dict[str, int] = json.loads((soak.folder / "counts.json").read_text(encoding="utf-8"))
    plain = [asked.get(f"{row % soak.hosts}/{row}.jpg", 0) for row in range(soak.rows)
             if kind_of(row % soak.hosts) in ("good", "slow (0.4 s)")]  # fmt: skip
    repeated = sum(max(0, times - 1) for times in plain)
    return f"Of {sum(plain)} requests for rows of hosts that simply answer {repeated} were repeated."


def hashes(table: Folder) -> list[str]:
    return [entry.sha256 for entry in table.shards]


def thirds(values: Sequence[float]) -> tuple[float, float]:
    """The most in the second and in the last third."""
    third = max(1, len(values) // 3)
    return max(values[third : 2 * third], default=0.0), max(values[2 * third :], default=0.0)


def soaked(soak: Soak, seed: int) -> list[str]:
    """Download twice and print what came of it. Returns what is wrong."""
    soak.write_list()
    chance, results = random.Random(seed), {}
    with web(soak.folder / "counts.json"):
        seconds = soak.run(soak.folder / "at-once")
    middle, last = thirds(soak.memory_mb)
    print(f"At once: {seconds:.0f} s, {soak.rows / seconds:.0f} rows a second; memory at most {middle:.0f} MB in the "
          f"middle third, {last:.0f} MB in the last. {again(soak)}\n", flush=True)  # fmt: skip
    with web(soak.folder / "counts.json"):
        start = time.monotonic()
        shares = [(number + chance.random()) / 4 for number in range(3)]
        finished = [soak.kill(soak.folder / "killed", share, 3 * chance.random()) for share in shares]
        soak.run(soak.folder / "killed")
    print(f"Killed with {', '.join(map(str, finished))} rows in finished shards: {time.monotonic() - start:.0f} s in "
          f"all. {again(soak)}\n", flush=True)  # fmt: skip
    for name in ("at-once", "killed"):
        results[name] = outcomes(soak.folder / name)
    print("| hosts that | hosts | rows | outcomes |\n|---|---|---|---|", *by_kind(soak, results["killed"]), sep="\n")
    wrong = [f"{name}: {fault}" for name, ends in results.items() for fault in faults(soak, ends)]
    tables = [open_folder(soak.folder / name / "download") for name in results]
    if hashes(tables[0]) != hashes(tables[1]):
        wrong.append("the two tables differ")
    if last > 1.25 * middle:
        wrong.append(f"memory grew from {middle:.0f} to {last:.0f} MB")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--hosts", type=int, default=400)
    parser.add_argument("--minutes", type=float, default=30.0, help="that a run may take")
    parser.add_argument("--seed", type=int, default=1, help="of the kills")
    parser.add_argument("--folder", help="where the tables go (default: the system's temporary folder)")
    given: Any = parser.parse_args()
    print(f"{given.rows:,} rows of {given.hosts} hosts, {WORKERS} workers; {versions()}\n", flush=True)
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        wrong = soaked(Soak(Path(name), given.rows, given.hosts, given.minutes * 60), given.seed)
    print(*wrong[:20], f"\n{len(wrong)} faults" if wrong else "\nno fault", sep="\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())

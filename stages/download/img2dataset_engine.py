"""`download.engine: img2dataset`: rows of the web go through its Downloader, shard by shard. All else is as ever.

What is lost against our own engine: docs/how-to/from-img2dataset.md, "Its engine".
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pairloom.errors import MissingExtraError, RunError
from stages import rows_done
from stages.download.address import parse
from stages.download.engine import Engine, Row
from stages.download.failure import Failure
from stages.download.fetch import Manners
from stages.download.img2dataset_job import OUTCOMES, Job, open_records
from stages.download.img2dataset_settings import Settings
from stages.download.pictures import Limits
from stages.download.places import Places
from stages.download.records import Follower
from stages.download.shard import outcome_of
from stages.download.spool import Outcome, Spool, key_of

ROOT = Path(__file__).parents[2]
MOST_THREADS = 256


def refuse_missing() -> None:
    """Raises MissingExtraError where img2dataset is not installed."""
    if importlib.util.find_spec("img2dataset") is None:
        what = "download.engine is img2dataset, which is not installed"
        raise MissingExtraError(what, sys.prefix, "install pairloom[img2dataset], or set download.engine: pairloom")


@dataclass
class Img2dataset:
    """Fetches with img2dataset what lies in the web, and leaves rows of sources to our own engine."""

    own: Engine
    settings: Settings
    manners: Manners
    limits: Limits
    retries: int
    _turn: threading.Lock = field(default_factory=threading.Lock)  # it has some hundred threads for one shard already

    @property
    def places(self) -> Places:
        return self.own.places

    @property
    def boxes(self) -> str | None:
        """The column of `extra` with what is to be blurred."""
        return self.settings.asking.bbox_col

    def run(self, rows: Sequence[Row], folder: Path | None, boxes: Mapping[Row, str] | None = None) -> Spool:
        """As Engine.run. Rows are noted when the whole shard is through, so a killed run asks for all of them again."""
        with Spool(folder) as noted, tempfile.TemporaryDirectory(prefix="pairloom-") as work:
            asked = self._asked(rows, noted)
            with self._turn:
                outcomes = self._fetched(asked, Path(work), boxes or {}) if asked else {}
            for key, (outcome, picture) in outcomes.items() if folder else ():
                noted.add(key, outcome, picture)
        if folder:
            return self.own.run(rows, folder)
        spool = self.own.run([row for row in rows if key_of(*row) not in outcomes], None)
        for key, (outcome, picture) in outcomes.items():
            spool.add(key, outcome, picture)
        return spool

    def close(self) -> None:
        self.own.close()

    def _asked(self, rows: Sequence[Row], noted: Spool) -> list[Row]:
        """Rows of the web that nothing is known of. What is no URL is left to our own engine, which says so."""
        asked = []
        for url, checksum in dict.fromkeys(rows):
            if key_of(url, checksum) in noted or self.places.parse(url) is not None:
                continue
            try:
                parse(url)
            except Failure:
                continue
            asked.append((url, checksum))
        return asked

    def _fetched(
        self, asked: Sequence[Row], work: Path, boxes: Mapping[Row, str]
    ) -> dict[bytes, tuple[Outcome, bytes]]:
        (work / "job.json").write_text(json.dumps(asdict(self._job(asked, boxes))), encoding="utf-8")
        _run(work)
        records = open_records(work)
        try:
            found = {int.from_bytes(key, "big"): records.read(place) for key, place in records.found}
        finally:
            records.close()
        lost = outcome_of(Failure("stage-error", "img2dataset gave this row no outcome"))
        return {key_of(*row): found.get(number, (lost, b"")) for number, row in enumerate(asked)}

    def _job(self, asked: Sequence[Row], boxes: Mapping[Row, str]) -> Job:
        said, manners = self.settings.asking, self.manners
        directives = said.disallowed_header_directives
        return Job(
            rows=[(url, checksum, boxes.get((url, checksum))) for url, checksum in asked],
            limits=asdict(self.limits),
            allowed=sorted(manners.doors.allowed),
            resizing=None if self.settings.resizing is None else asdict(self.settings.resizing),
            thread_count=said.thread_count or min(MOST_THREADS, manners.connections),
            timeout=said.timeout or manners.timeout_s,
            retries=self.retries if said.retries is None else said.retries,
            user_agent_token=said.user_agent_token or manners.user_agent,
            directives=manners.directives if directives is None else directives,
        )


def _followed(process: subprocess.Popen[bytes], outcomes: Path) -> int:
    """The exit code of the worker. Until it ends, the rows that have an outcome are counted each second."""
    outcomes.touch()
    with outcomes.open("rb", buffering=0) as file:
        follower, code = Follower(file), None
        while code is None:
            try:
                code = process.wait(rows_done.EVERY_S)
            except subprocess.TimeoutExpired:
                rows_done.current().reach(follower.look())
    return code


def _run(work: Path) -> None:
    """Run the worker to its end. Raises RunError with what it said last."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-m", "stages.download.img2dataset_worker", str(work)]
    with (work / "said").open("w+b") as said:
        # its standard input stays open as long as we live
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said, env=environment
        )
        try:
            code = _followed(process, work / OUTCOMES)
        finally:
            process.kill()
            process.wait()
            assert process.stdin is not None
            process.stdin.close()
        if code:
            said.seek(0)
            last = said.read().decode("utf-8", "replace").strip().splitlines()[-15:]
            raise RunError(
                f"img2dataset ended with exit code {code}\n" + "\n".join(last),
                "stages/download/img2dataset_worker.py",
                "check its settings and installation; the same command asks for the shard's rows again",
            )

"""The rows of one shard on their way: what is still to be done, what may be an outage, where outcomes are noted."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial

from pairloom.errors import MachineError, RunError, StoreError
from pairloom.machine import of_the_machine
from stages.download.address import Target, parse
from stages.download.failure import Failure, KilledError, unexpected
from stages.download.fetch import Fetched
from stages.download.host import Job
from stages.download.places import Places, Wanted
from stages.download.spool import Outcome, Spool, key_of
from stages.rows_done import Count, current

LEAST_KILLED, KILLED_SHARE = 2, 10  # rows that may kill their decoder: two of any shard, else one in ten


@dataclass(eq=False)
class Shard:
    """The rows of one shard that are still to be done."""

    spool: Spool
    places: Places = field(default_factory=Places)
    jobs: list[Job] = field(default_factory=list)
    wanted: list[Wanted] = field(default_factory=list)  # rows of sources
    rows: int = 0  # of the whole shard, those that agree counted once
    open: int = 0
    came: Target | None = None  # one that was stored before
    unsure: list[tuple[bytes, Outcome]] = field(default_factory=list)  # failures that an outage would explain
    errors: list[tuple[bytes, BaseException, int]] = field(default_factory=list)  # key, unexpected, attempts
    finished: Future[None] = field(default_factory=Future)
    count: Count = field(default_factory=current)  # of the thread that waits for the shard

    def plan(self, url: str, checksum: str | None) -> None:
        """Make a job of a row that is not done yet."""
        key = key_of(url, checksum)
        self.rows += 1
        if (locator := self.places.parse(url)) is not None:
            if key not in self.spool:
                self.wanted.append(Wanted(locator, key, checksum))
                self.open += 1
            return
        if key in self.spool and (self.came or not self.spool.stored(key)):
            return
        try:
            target = parse(url)
        except Failure as failure:
            self.spool.add(key, outcome_of(failure))
        except Exception as error:  # noqa: BLE001  # whatever a URL does, it costs that row only
            self.errors.append((key, error, 1))
        else:
            if key in self.spool or self.spool.has_body(key):
                self.came = target
            if key not in self.spool:
                self.jobs.append(Job(target, key, checksum, self))
                self.open += 1

    def note(self, key: bytes, outcome: Outcome, picture: bytes = b"") -> None:
        self._write(partial(self.spool.add, key, outcome, picture))

    def keep(self, job: Job, fetched: Fetched) -> None:
        """Note what came for a row, so that a killed run need not ask for it again."""
        facts = {"kind": fetched.kind, "attempts": job.tries}
        self._write(partial(self.spool.add_body, job.key, facts, fetched.body))

    def kept(self, job: Job) -> Fetched:
        """What a killed run noted for a row that came before. The row has as many attempts as it had then."""
        facts, body = self.spool.body(job.key)
        job.attempts = facts["attempts"]
        return Fetched(body, facts["kind"])

    def _write(self, note: Callable[[], None]) -> None:
        if self.finished.done():
            return
        try:
            note()
        except StoreError as error:
            self.finished.set_exception(error)

    def settle(self) -> None:
        """There is no outage: what failed has failed. A shard with no open row is finished."""
        unsure, self.unsure = self.unsure, []
        for key, outcome in unsure:
            self.note(key, outcome)
        if not self.open and not self.finished.done():
            self._finish()

    def _finish(self) -> None:
        """Note the unexpected errors, which an unfinished shard forgets: another version may not make them."""
        if (lack := self._killed() or self._lack()) is not None:  # no row is to blame, and none is noted
            self.finished.set_exception(lack)
            return
        if len(self.errors) > max(1, self.rows // 2):
            self.finished.set_exception(_bug(self.errors[-1][1]))
            return
        for key, error, attempts in self.errors:
            failure = unexpected(error)
            failure.attempts = attempts
            self.note(key, outcome_of(failure))
        if not self.finished.done():  # a full disk may have ended it
            self.finished.set_result(None)

    def _killed(self) -> MachineError | None:
        """What to raise where the decoders of many rows are killed: no memory, say, which is no row's fault."""
        killed = [error for _, error, _ in self.errors if isinstance(error, KilledError)]
        if len(killed) <= max(LEAST_KILLED, self.rows // KILLED_SHARE):
            return None
        what = f"of {self.rows} rows of a shard {len(killed)} had their decoder killed: {killed[-1]}"
        fix = "give the machine more memory, or set download.decoders or download.decoder_memory_mb lower"
        return MachineError(what, "stage download", fix)

    def _lack(self) -> MachineError | None:
        """What the machine lacks, such as space. Memory and time are not among it here, since a server can take any."""
        errors = (error for _, error, _ in self.errors if not isinstance(error, MemoryError | TimeoutError))
        return next((lack for error in errors if (lack := of_the_machine(error, "stage download"))), None)


def _bug(error: BaseException) -> RunError:
    return RunError(
        "download fails on most rows of a shard; the last error is\n" + "".join(traceback.format_exception(error)),
        where="stages/download",
        fix="no single row is the cause: check the settings, run `pairloom doctor`, or report the bug",
    )


def engine_failed(error: BaseException) -> RunError:
    return RunError(
        "download failed outside of any row\n" + "".join(traceback.format_exception(error)),
        where="stages/download",
        fix="run the same command again: finished rows are kept; if it fails again, report the bug",
    )


def outcome_of(failure: Failure) -> Outcome:
    return {"reason": failure.reason, "detail": failure.detail, "attempts": failure.attempts}

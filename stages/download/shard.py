"""The rows of one shard on their way: what is still to be done, what may be an outage, where outcomes are noted."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field

from pairloom.errors import StoreError
from stages.download.address import Target, parse
from stages.download.failure import Failure
from stages.download.hosts import Job
from stages.download.spool import Outcome, Spool, key_of


@dataclass(eq=False)
class Shard:
    """The rows of one shard that are still to be done."""

    spool: Spool
    jobs: list[Job] = field(default_factory=list)
    open: int = 0
    came: Target | None = None  # one that was stored before
    unsure: list[tuple[bytes, Outcome]] = field(default_factory=list)  # failures that an outage would explain
    finished: Future[None] = field(default_factory=Future)

    def plan(self, url: str, checksum: str | None) -> None:
        """Make a job of a row that is not done yet."""
        key = key_of(url, checksum)
        try:
            if key not in self.spool:
                self.jobs.append(Job(parse(url), key, checksum, self))
                self.open += 1
            elif self.came is None and self.spool.stored(key):
                self.came = parse(url)
        except Failure as failure:
            self.spool.add(key, outcome_of(failure))

    def note(self, key: bytes, outcome: Outcome, picture: bytes = b"") -> None:
        if self.finished.done():
            return
        try:
            self.spool.add(key, outcome, picture)
        except StoreError as error:
            self.finished.set_exception(error)

    def settle(self) -> None:
        """There is no outage: what failed has failed. A shard with no open row is finished."""
        unsure, self.unsure = self.unsure, []
        for key, outcome in unsure:
            self.note(key, outcome)
        if not self.open and not self.finished.done():
            self.finished.set_result(None)


def outcome_of(failure: Failure) -> Outcome:
    return {"reason": failure.reason, "detail": failure.detail, "attempts": failure.attempts}

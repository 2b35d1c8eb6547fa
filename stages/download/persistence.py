"""How often and how long a row is tried."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from stages.download.failure import Failure
from stages.download.host import Job


@dataclass(frozen=True, kw_only=True)
class Persistence:
    """How often and how long a row is tried."""

    retries: int = 2  # after the first attempt
    backoff_s: float = 0.5  # pause before the first retry, doubled before each further one
    max_wait_s: float = 60.0  # the longest pause that a server may ask for. Who asks for more is not asked again
    outage_after: int | None = 1000  # rows in a row that no host answered, after which the network is tested
    report_s: float = 30.0  # without a finished shard, after which a line says what is waited for

    def too_long(self, failure: Failure) -> bool:
        """Whether a server wants to be left alone for longer than is waited."""
        return (failure.retry_after_s or 0.0) > self.max_wait_s

    def pause_s(self, job: Job, failure: Failure) -> float | None:
        """How long a row that failed waits for its next attempt. None if it has had its last one.

        Four times as long after a refusal for the rate, since servers count requests over some time.
        """
        if job.tries > self.retries:
            return None
        return self.backoff_s * 2.0 ** (job.tries - 1) * jitter(job.key, job.tries) * (4 if failure.refusal else 1)


def jitter(key: bytes, attempt: int) -> float:
    """A factor from 0.5 to 1.5 that spreads the retries of many rows. The same for the same row and attempt."""
    return 0.5 + zlib.crc32(key + bytes([attempt & 255])) / 2**32

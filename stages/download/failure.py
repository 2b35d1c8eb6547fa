"""Why one URL gave no picture. Raised anywhere below, it ends as a row of the quarantine table."""

from __future__ import annotations

import traceback

from pairloom.foreign import shown
from schemas.quarantine import REASONS

SILENT = frozenset({"dns", "connect", "timeout"})  # the host, or the way to it, gave no answer at all


class Failure(Exception):  # noqa: N818  what became of a row, no error of the program
    """A word of the vocabulary in schemas/quarantine.py and what exactly happened. Never holds credentials."""

    def __init__(self, reason: str, detail: str, attempts: int = 1, retry_after_s: float | None = None) -> None:
        assert reason in REASONS, f"{reason} is not in schemas.quarantine.REASONS"
        super().__init__(reason, shown(detail), attempts)
        self.reason = reason
        self.detail = shown(detail)
        self.attempts = attempts
        self.retry_after_s = retry_after_s  # how long the server asked us to wait
        self.redirected = False  # whether it is that of a redirect's goal
        self.crawl_delay_s: float | None = None  # what robots.txt of the URL's host asks for, if that was read
        self.asked = True  # whether the picture's own URL was asked for, and not only its robots.txt

    @property
    def silent(self) -> bool:
        """Whether the URL's own host gave no answer at all."""
        return self.reason in SILENT and not self.redirected

    @property
    def refusal(self) -> bool:
        """Whether the URL's own host says that it is asked too often (RFC 6585, 4; RFC 9110, 15.6.4)."""
        asked = self.reason == "http-5xx" and self.retry_after_s is not None
        return self.asked and not self.redirected and (self.reason == "rate-limited" or asked)

    @property
    def temporary(self) -> bool:
        """Whether trying again may help."""
        return REASONS[self.reason][1]


class KilledError(Exception):
    """The process that decoded a row's picture was killed from outside, each time that it was tried."""


def unexpected(error: BaseException) -> Failure:
    """What becomes of a row whose own work raised something that nobody expected. It costs no other row."""
    if isinstance(error, KilledError):
        return Failure("worker-died", str(error))
    return Failure("stage-error", shown("".join(traceback.format_exception_only(error)).strip())[:300])

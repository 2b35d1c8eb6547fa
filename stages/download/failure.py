"""Why one URL gave no picture; raised anywhere below, it ends as a row of the quarantine table."""

from __future__ import annotations

from schemas.quarantine import REASONS


class Failure(Exception):  # noqa: N818  what became of a row, no error of the program
    """A word of the vocabulary in schemas/quarantine.py and what exactly happened; never holds credentials."""

    def __init__(self, reason: str, detail: str, attempts: int = 1) -> None:
        assert reason in REASONS, f"{reason} is not in schemas.quarantine.REASONS"
        super().__init__(reason, detail, attempts)
        self.reason = reason
        self.detail = detail
        self.attempts = attempts

    @property
    def temporary(self) -> bool:
        """Whether trying again may help."""
        return REASONS[self.reason][1]

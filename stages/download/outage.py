"""Tells an outage here from dead hosts there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from pairloom.errors import RunError
from stages.download.address import Target
from stages.download.failure import SILENT, Failure
from stages.download.fetch import Fetcher


class Outage:
    """After many silent rows it asks for a picture that came before; if that does not come either, the run stops."""

    def __init__(
        self,
        fetcher: Fetcher,
        after: int | None,
        settle: Callable[[], None],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        """after: silent rows in a row, null: never; settle: what is unsure has failed; spawn: do this meanwhile."""
        self.fetcher, self.after, self.settle, self.spawn = fetcher, after, settle, spawn
        self.silent: Counter[str] = Counter()  # reasons of the rows in a row
        self.canary: Target | None = None
        self.testing = False

    def over(self, target: Target | None) -> None:
        """A host answered."""
        self.canary = target or self.canary
        if self.silent:
            self.silent.clear()
            self.settle()

    def suspect(self, failure: Failure) -> None:
        """A row ended without an answer."""
        self.silent[failure.reason] += 1
        if self.after is not None and self.silent.total() >= self.after and not self.testing:
            self.testing = True
            self.spawn(self._test())

    async def _test(self) -> None:
        try:
            if self.canary is not None:
                await self.fetcher.attempt(self.canary)
        except Failure as failure:
            if failure.reason in SILENT:
                raise self._error() from failure
        else:
            if self.canary is None:
                raise self._error()
        finally:
            self.testing = False
        self.over(None)

    def _error(self) -> RunError:
        reasons = ", ".join(f"{rows} {reason}" for reason, rows in self.silent.most_common())
        known = f", nor does {self.canary.host}, which answered before" if self.canary else ""
        return RunError(
            f"the network seems to be down: no host answers any more ({reasons}){known}",
            "stage download",
            "repair the network or the name server and run the same command again: finished rows are kept; "
            "if these hosts are really gone, set download.outage_after to null",
        )

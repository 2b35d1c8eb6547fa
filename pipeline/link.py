"""The connection to a Dask scheduler: what it says of itself, and when it is gone for good."""

from __future__ import annotations

import pickle
import time
import uuid
from concurrent.futures import CancelledError  # as distributed raises it
from typing import Any

from pairloom.errors import RunError


class Link:
    """A client's scheduler, which may be away for a while.

    address: what people call it. lost_s: seconds after which one that does not answer is gone.
    """

    def __init__(self, client: Any, address: str, lost_s: float) -> None:
        self.client, self.address, self.lost_s = client, address, lost_s
        self._since: float | None = None  # time.monotonic() when it was first found away
        self._knocking: Any = None

    @property
    def away(self) -> bool:
        return self._since is not None

    def identity(self) -> Any:
        """What the scheduler says of itself and its workers. None while it does not answer.

        Raises RunError when it is gone.
        """
        try:
            if self.client.status == "running":
                found = self.client.sync(self.client.scheduler.identity, n_workers=-1)
                self._since = None
                return found
        except (OSError, RuntimeError, CancelledError) as error:
            self._refuse_gone(error)
        self._refuse_gone(None)
        return None

    def _refuse_gone(self, error: BaseException | None) -> None:
        self._since = self._since or time.monotonic()
        if self.client.status in ("closing", "closed") or time.monotonic() - self._since > self.lost_s:
            fix = "start it and its workers again, and run the same command again: finished shards are kept"
            raise RunError("the Dask scheduler is gone: it does not answer any more", self.address, fix) from error

    def knock(self, wanted: bool) -> None:
        """Leave one small task with the scheduler while a worker is wanted: an adaptive cluster starts one for it."""
        if not wanted:
            self._knocking = None
        elif self._knocking is None:
            key = f"waiting-for-workers-{uuid.uuid4().hex}"
            self._knocking = self.client.submit(pickle.loads, pickle.dumps(None), key=key)

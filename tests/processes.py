"""The processes of a run that a test looks at or kills."""

from __future__ import annotations

import psutil


def workers_of(process: int) -> list[psutil.Process]:
    """The processes that compute for this one: the leaves of the tree of those that Dask started."""
    found = []
    for child in psutil.Process(process).children(recursive=True):
        try:
            if "spawn_main" in " ".join(child.cmdline()) and not child.children():
                found.append(child)
        except psutil.NoSuchProcess:
            continue  # it ended while it was looked at
    return found

"""numba's compiler as all rooms use it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import numba
from numba.core.event import Event, Listener, register

Function = TypeVar("Function", bound=Callable[..., Any])


class _Told(Listener):
    """Says once in a process that it compiles: the first time on a machine that takes up to a minute."""

    said = False

    def on_start(self, event: Event) -> None:
        if not self.said:
            self.said = True
            name = getattr(event.data["dispatcher"].py_func, "__module__", "")
            print(
                f"compiling {name} and what it needs, once on this machine: up to a minute", file=sys.stderr, flush=True
            )

    def on_end(self, event: Event) -> None:
        """Nothing: what follows speaks for itself."""


register("numba:compile", _Told())  # type: ignore[no-untyped-call]


def compiled(function: Function) -> Function:
    """The function compiled, the result kept for the next process where there is a folder to keep it in."""
    return _compiled(function, fastmath=False)


def reordered(function: Function) -> Function:
    """The same, and sums may be added up in another order, as vector instructions do: for sums that can bear it."""
    return _compiled(function, fastmath={"reassoc", "contract", "nsz"})


def _compiled(function: Function, fastmath: bool | set[str]) -> Function:
    jit: Callable[..., Any] = numba.njit  # its own types would hide the function's
    try:
        kept: Function = jit(cache=True, nogil=True, fastmath=fastmath)(function)
    except RuntimeError:  # "no locator available": neither beside the file nor in the user's cache folder
        forgotten: Function = jit(nogil=True, fastmath=fastmath)(function)
        return forgotten
    return kept

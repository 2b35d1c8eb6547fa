"""numba's compiler as all rooms use it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """The function compiled, the result kept for the next process where there is a folder to keep it in."""
    jit: Callable[..., Any] = numba.njit  # its own types would hide the function's
    try:
        kept: Function = jit(cache=True, nogil=True)(function)
    except RuntimeError:  # "no locator available": neither beside the file nor in the user's cache folder
        forgotten: Function = jit(nogil=True)(function)
        return forgotten
    return kept

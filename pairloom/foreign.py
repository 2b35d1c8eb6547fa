"""Text that others wrote (headers, file names, error messages), made fit for tables and messages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

SURROGATE = re.compile(r"[\ud800-\udfff]")
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
ADDRESS = re.compile(r"(<[^<>]*?) at 0x[0-9a-fA-F]+(?=[^<>]*>)")


def storable(text: str) -> str:
    r"""The text with every lone surrogate escaped, since UTF-8 can't hold one; other text is returned as it is.

    A byte that Python could not decode (PEP 383) becomes `\xe9`, any other surrogate `\ud800`.
    """
    return SURROGATE.sub(_escaped, text)


def shown(text: str) -> str:
    """The text as one printable line that is the same in every run: escapes instead of control characters, and no
    memory addresses of Python objects.
    """
    return UNPRINTABLE.sub(_escaped, storable(ADDRESS.sub(r"\1", text)))


def storable_values(value: Any) -> Any:
    """The same value with all text in it made storable: lists, tuples, mappings and what they hold."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, Mapping):
        return {storable_values(key): storable_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(storable_values(item) for item in value)
    return value


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

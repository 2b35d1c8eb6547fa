"""Paths as text of one line, for tables and lists: a file name on Linux is bytes, which need not be UTF-8 or printable.

| in the name | as text |
|---|---|
| a byte that is not UTF-8 | `\\xff` |
| a tab, a line end, a carriage return | `\\t`, `\\n`, `\\r` |
| any other control character or line separator | `\\x1b`, `\\u2028` |
| a backslash | `\\\\` |

All else stays as it is. `as_path` is the way back.
"""

from __future__ import annotations

import re
import unicodedata

SHORT = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
LONG = {text: character for character, text in SHORT.items()}
ESCAPE = re.compile(r"\\(?:\\|t|n|r|x[0-9a-f]{2}|u[0-9a-f]{4})")
UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # control characters, bytes as surrogates (PEP 383), line and paragraph ends


def as_text(path: str) -> str:
    """A path, as Python has it from the system, as valid text of one line. Different paths give different texts."""
    if path.isprintable() and "\\" not in path:
        return path
    return "".join(map(_escaped, path))


def one_line(text: str) -> str:
    """Text whose control characters and line ends are escaped, and nothing else. What `as_text` gave stays as it is."""
    return text if text.isprintable() else "".join(each if each == "\\" else _escaped(each) for each in text)


def as_path(text: str) -> str:
    """The path that `as_text` made this text of."""
    return ESCAPE.sub(lambda found: _plain(found[0]), text)


def _escaped(character: str) -> str:
    if character in SHORT:
        return SHORT[character]
    if unicodedata.category(character) not in UNPRINTABLE:
        return character
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:
        return f"\\x{number - 0xDC00:02x}"
    return f"\\x{number:02x}" if number < 0x80 else f"\\u{number:04x}"


def _plain(escape: str) -> str:
    if escape in LONG:
        return LONG[escape]
    number = int(escape[2:], 16)
    return chr(number + 0xDC00 if escape[1] == "x" and number >= 0x80 else number)

"""Lists that users bring: where they lie and how they are packed, and their rows as table `urls`."""

from formats.lists.columns import ListColumns
from formats.lists.lists import read

__all__ = ["ListColumns", "read"]

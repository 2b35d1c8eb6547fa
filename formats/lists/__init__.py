"""Lists that users bring, of pairs, captions or texts: where they lie, how they are packed, and what is in them."""

from formats.lists.columns import ListColumns
from formats.lists.urls import BadRow, Part, read

__all__ = ["BadRow", "ListColumns", "Part", "read"]

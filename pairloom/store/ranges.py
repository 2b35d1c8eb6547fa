"""A Parquet file that is not here, as a file for pyarrow, which reads few runs of its bytes."""

from __future__ import annotations

import io
from collections.abc import Callable


class Ranges(io.RawIOBase):
    """Read-only. read_range: the bytes from one place to another, the second of which is at most `size`."""

    def __init__(self, read_range: Callable[[int, int], bytes], size: int) -> None:
        super().__init__()
        self.read_range, self.size, self.place = read_range, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self.place = offset + (0, self.place, self.size)[whence]
        return self.place

    def tell(self) -> int:
        return self.place

    def read(self, size: int = -1) -> bytes:
        stop = self.size if size < 0 else min(self.place + size, self.size)
        if stop <= self.place:
            return b""
        content = self.read_range(self.place, stop)
        self.place = stop
        return content

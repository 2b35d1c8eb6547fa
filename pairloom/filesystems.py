"""File systems behind an address: those of fsspec, and Arrow's own where fsspec lacks a package."""

from __future__ import annotations

from functools import partial
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.fs
from fsspec.implementations.arrow import ArrowFSWrapper

from pairloom.errors import InputError


def file_system(url: str) -> tuple[Any, str]:
    """(fsspec's file system, the path in it); for s3:// and gs:// without a package of fsspec, Arrow's own client.

    Raises InputError where no package here opens the address.
    """
    try:
        found: tuple[Any, str] = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        try:
            files, path = pyarrow.fs.FileSystem.from_uri(url)
        except (pa.ArrowException, NotImplementedError):
            raise InputError(
                f"no package here opens it: {error}", url, "correct the name, or install that package"
            ) from error
        wrapped = ArrowFSWrapper(files)
        wrapped.cat_file = partial(wrapped.cat_file, seekable=True)  # or it cannot cut a run of bytes at the beginning
        found = wrapped, path
    return found

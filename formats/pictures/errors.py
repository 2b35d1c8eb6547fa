"""Why a place in a source gave no picture."""

from __future__ import annotations

import errno
import os
import struct
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from pairloom.machine import refuse_machine_error

# What the readers of tars, Parquet and Arrow raise on damaged files.
DAMAGE = (pa.ArrowException, tarfile.TarError, struct.error, ValueError, ArithmeticError, LookupError, RuntimeError)


class SourceError(Exception):
    """A word of schemas/quarantine.py (path-refused, not-found, unreadable, body-limit) and what exactly is wrong."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


@contextmanager
def explained(path: str) -> Iterator[None]:
    """Turns what a file system or Arrow raises into a SourceError that names the path in its source.

    Raises MachineError where no file is to blame, such as too many open files. A bad sector (EIO) costs its rows only.
    """
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SourceError("not-found", f"the source has no {path!r}") from error
    except OSError as error:
        if error.errno != errno.EIO:
            refuse_machine_error(error, path)
        said = os.strerror(error.errno) if error.errno else str(error)
        raise SourceError("unreadable", f"{path!r} cannot be read: {said}"[:300]) from error
    except DAMAGE as error:
        said = f"{type(error).__name__}: {error}"
        raise SourceError("unreadable", f"{path!r} cannot be read: {said}"[:300]) from error

"""Errors of the machine: too many open files, a full disk, a disk that fails. They say nothing of a file's bytes."""

from __future__ import annotations

import errno
import os

from pairloom.errors import MachineError

OF_THE_MACHINE = {
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT),
    *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT),
}


def refuse_machine_error(error: BaseException, where: str) -> None:
    """Raise MachineError if the error is one of the machine: no shard is damaged by it, so none may be skipped."""
    if isinstance(error, OSError) and error.errno in OF_THE_MACHINE:
        fix = "look at this machine's disk and mounts"
        if error.errno in (errno.EMFILE, errno.ENFILE):
            fix = "raise the limit of open files (`ulimit -n`), or train with fewer workers"
        raise MachineError(f"it cannot be read: {os.strerror(error.errno)}", where, fix) from error

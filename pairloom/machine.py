"""Errors of the machine: too many open files, a full disk, no memory. They say nothing of a file or of a row."""

from __future__ import annotations

import errno
import os
import re

from pairloom.errors import MachineError

OF_THE_MACHINE = {
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT),
    *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT),
}
FULL = (errno.ENOSPC, errno.EDQUOT)
# Of torch's allocator, of CUDA's own where another process has the card's memory, and of cuBLAS and cuDNN.
OUT_OF_GPU_MEMORY = ("CUDA out of memory", "CUDA error: out of memory", "STATUS_ALLOC_FAILED")
# Not what a kernel met in a row's numbers, such as a device-side assert.
NO_GPU = ("uncorrectable ECC error", "busy or unavailable", "no CUDA-capable device", "No CUDA GPUs are available")
NUMPY_FULL = re.compile(r"\d+ requested and \d+ written")  # its error of a full disk has no number


def refuse_machine_error(error: BaseException, where: str) -> None:
    """Raise MachineError if the error is one of the machine: no shard is damaged by it, so none may be skipped."""
    if isinstance(error, OSError) and error.errno in OF_THE_MACHINE:
        fix = "look at this machine's disk and mounts"
        if error.errno in (errno.EMFILE, errno.ENFILE):
            fix = "raise the limit of open files (`ulimit -n`), or train with fewer workers"
        raise MachineError(f"it cannot be read: {os.strerror(error.errno)}", where, fix) from error


def of_the_machine(error: BaseException, where: str) -> MachineError | None:
    """The MachineError to raise in its place if this machine lacks something, whatever row it was at, else None.

    An error that was made of another one (`raise … from`) is what that one is.
    """
    if isinstance(error, MachineError):
        return error
    if found := _lack(error):
        return MachineError(found[0], where, found[1])
    cause = error.__cause__
    return of_the_machine(cause, where) if cause is not None else None


def _lack(error: BaseException) -> tuple[str, str] | None:
    """What is lacking and the cure."""
    if isinstance(error, MemoryError):
        fix = "run fewer processes on the machine, or make shards smaller (sample.rows_per_shard)"
        return f"the process ran out of memory: {error}".rstrip(": "), fix
    if isinstance(error, RuntimeError) and (found := _lack_of_gpu(error)):
        return found
    if isinstance(error, OSError):
        number = errno.ENOSPC if NUMPY_FULL.fullmatch(str(error)) else error.errno
        if number in {*OF_THE_MACHINE, errno.EROFS}:
            said = os.strerror(number)
            return f"{error.filename}: {said}" if error.filename else said, _fix_of(number)
    return None


def _lack_of_gpu(error: RuntimeError) -> tuple[str, str] | None:
    """Of torch.OutOfMemoryError, without loading torch, and of plain RuntimeErrors of torch and CUDA."""
    kind, said = type(error), str(error).partition("\n")[0]
    torchs_own = kind.__name__ == "OutOfMemoryError" and kind.__module__.startswith("torch")
    if torchs_own or any(sign in said for sign in OUT_OF_GPU_MEMORY):
        fix = "end what else uses the card, run one worker a card, lower the stage's `batch`, or set `device: cpu`"
        return f"the GPU ran out of memory: {said}".rstrip(": "), fix
    if any(sign in said for sign in NO_GPU):
        return f"the GPU cannot be used: {said}", "look at the card (`nvidia-smi`, `dmesg`), or set `device: cpu`"
    return None


def _fix_of(number: int) -> str:
    if number in FULL:
        return "free some space and run the same command again; finished shards are kept"
    if number == errno.EROFS:
        return "mount the folder so that it can be written, or name another, and run the same command again"
    if number in (errno.EMFILE, errno.ENFILE):
        return "raise the limit of open files (`ulimit -n`) where the workers start"
    if number == errno.ENOMEM:
        return "run fewer processes on the machine, or give it more memory"
    return "look at the machine's disk and mounts, and run the same command again; finished shards are kept"

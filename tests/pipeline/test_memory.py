"""Freed memory stays with the process, whatever limits it was started with: counted in page faults by the kernel."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pipeline.memory import keep_freed_memory

PROGRAM = """
import ctypes, resource, sys, threading
from pipeline.memory import keep_freed_memory
if sys.argv[1] == "ours":
    keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def work():
    for _ in range(100):
        block = libc.malloc(8 << 20)
        ctypes.memset(block, 1, 8 << 20)
        libc.free(block)
thread = threading.Thread(target=work)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
thread.start(); thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(limits: str) -> int:
    """Pages that the kernel had to find for 100 blocks of 8 MB, one after the other, in a thread of a Dask worker."""
    environment = os.environ | {"MALLOC_TRIM_THRESHOLD_": "65536"}
    return int(subprocess.check_output([sys.executable, "-c", PROGRAM, limits], env=environment, text=True))


@pytest.mark.skipif(not keep_freed_memory(), reason="this C library has no mallopt")
def test_a_worker_is_given_its_pages_once() -> None:
    pages = (8 << 20) // os.sysconf("SC_PAGESIZE")
    assert faults("dask") > 90 * pages  # each block anew: what the limits are for
    assert faults("ours") < 5 * pages


@pytest.mark.skipif(not keep_freed_memory(), reason="this C library has no mallopt")
def test_processes_that_a_command_starts_keep_theirs_too() -> None:
    program = "import subprocess, sys; from pipeline.memory import keep_freed_memory; keep_freed_memory(); "
    program += f"print(subprocess.check_output([sys.executable, '-c', {PROGRAM!r}, 'as started'], text=True))"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    pages = (8 << 20) // os.sysconf("SC_PAGESIZE")
    assert int(subprocess.check_output([sys.executable, "-c", program], env=clean, text=True)) < 5 * pages

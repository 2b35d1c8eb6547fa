"""How a worker's C library handles memory that was freed: it is kept for the next task instead of given back.

Dask starts its workers with MALLOC_TRIM_THRESHOLD_=65536, and by that every large block is mapped anew and given back
when it is freed. A network frees its activations at every layer, so the kernel then clears pages for nearly half of the
time: with these limits the starter detector is twice as fast in a worker (benchmarks/allocator.py).
"""

from __future__ import annotations

import ctypes
import functools
import os

# Parameters of mallopt(3), glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
KEPT_BYTES = 256 << 20  # free memory at the end of the heap that a process keeps
HEAP_BYTES = 32 << 20  # larger blocks than this are mapped one by one. The largest value that glibc takes


@functools.cache
def keep_freed_memory() -> bool:
    """Set the limits for this process, whoever started it, and for the processes that it starts.

    False where the C library has no `mallopt` (macOS, musl).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # One heap: a thread's own would be mapped in parts of 64 MB, and each keep what it once needed.
    settings = {M_ARENA_MAX: 1, M_MMAP_THRESHOLD: HEAP_BYTES, M_TRIM_THRESHOLD: KEPT_BYTES}
    for name, value in (("MMAP", HEAP_BYTES), ("TRIM", KEPT_BYTES)):
        os.environ.setdefault(f"MALLOC_{name}_THRESHOLD_", str(value))
    taken: int = sum(mallopt(name, value) for name, value in settings.items())
    return taken == len(settings)

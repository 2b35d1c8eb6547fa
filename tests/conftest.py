"""Settings of all tests."""

import os
import signal
from collections import Counter

import psutil
import pytest
from hypothesis import settings

from tests.devices import CUDA

GIB_A_PROCESS = 3  # of memory: torch, the processes that a test starts, and their torch

collect_ignore_glob = [] if CUDA else ["**/test_cuda.py"]
for variable in [name for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "all_proxy")]:
    del os.environ[variable]  # tests stay on this machine, and `download` refuses to run beside a proxy
settings.register_profile("pairloom", deadline=None)  # a busy machine is no failure, and no test is about time
settings.load_profile("pairloom")
# The background jobs of a shell ignore Ctrl-C, and so would every program that is tested from one.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    return "CUDA is there" if CUDA else "no CUDA here: the files test_cuda.py are left out"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Among processes, files with slow tests come first, or one of them would still run when the others have ended."""
    if hasattr(config, "workerinput"):
        slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
        items.sort(key=lambda item: -slow[item.path])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """As many processes as this one may use cores, as far as memory goes. Xdist itself counts those of the machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory: int = psutil.virtual_memory().total
    return max(1, min(cores, memory // (GIB_A_PROCESS << 30)))

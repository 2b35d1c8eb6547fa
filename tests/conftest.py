"""Settings of all tests."""

import signal

from hypothesis import settings

from tests.devices import CUDA

collect_ignore_glob = [] if CUDA else ["**/test_cuda.py"]
settings.register_profile("pairloom", deadline=None)  # a busy machine is no failure, and no test is about time
settings.load_profile("pairloom")
# The background jobs of a shell ignore Ctrl-C, and so would every program that is tested from one.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    return "CUDA is there" if CUDA else "no CUDA here: the files test_cuda.py are left out"

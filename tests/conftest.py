"""Settings of all tests."""

import signal

from hypothesis import settings

settings.register_profile("pairloom", deadline=None)  # a busy machine is no failure, and no test is about time
settings.load_profile("pairloom")
# The background jobs of a shell ignore Ctrl-C, and so would every program that is tested from one.
signal.signal(signal.SIGINT, signal.default_int_handler)

"""Settings of all tests."""

from hypothesis import settings

settings.register_profile("pairloom", deadline=None)  # a busy machine is no failure, and no test is about time
settings.load_profile("pairloom")

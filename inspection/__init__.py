"""Looks at a dataset, never changes it."""

from pairloom import offline

offline.stay_offline()  # before a library is imported that would phone home

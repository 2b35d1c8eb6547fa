"""Trains any recipe on shards. What there is to train lies in systems/."""

from pairloom import offline

offline.stay_offline()  # before a library is imported that would phone home

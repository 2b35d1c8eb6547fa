"""Everything that surrounds a stage: params, executor, store, command line."""

from pairloom import offline

offline.stay_offline()  # before a library is imported that would phone home

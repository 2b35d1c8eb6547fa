"""The tables: one module each, with the meaning, unit and shape of every column."""

from pairloom import offline

offline.stay_offline()  # before a library is imported that would phone home

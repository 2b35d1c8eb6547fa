"""The demo: composed scenes of named things, their captions and questions, and what its server answers."""

from pairloom import offline

offline.stay_offline()  # before a library is imported that would phone home

"""What is computed, one module or folder a stage. Never where it lies or who runs it."""

from pairloom import offline

offline.stay_offline()  # before a library is imported that would phone home

"""The published systems and one study: recipes, and the models, objectives and units that they name."""

from pairloom import offline

offline.stay_offline()  # before a library is imported that would phone home

"""The tables: one module each, with the meaning, unit and shape of every column, and the errors."""

from schemas import offline

offline.stay_offline()  # before anything else of ours or others' is imported

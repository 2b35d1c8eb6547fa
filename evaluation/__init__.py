"""Trained systems on the tests of papers: retrieval, zero-shot classes, Winoground, SugarCrepe, VQA, NLVR2, RefCOCO."""

from pairloom import offline

offline.stay_offline()  # before a library is imported that would phone home

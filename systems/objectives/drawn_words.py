"""Objective `drawn_words`: masked language modelling of words that another objective of the same step has hidden."""

from __future__ import annotations

from systems.objectives.mlm import Settings, head, loss

__all__ = ["Settings", "head", "loss"]

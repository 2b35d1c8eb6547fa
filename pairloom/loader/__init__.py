"""Feeding: batches from a folder of shards. A record passes source, reading, rows, prepare and batch, in this order."""

from pairloom.loader.loader import Loader
from pairloom.loader.options import Options

__all__ = ["Loader", "Options"]

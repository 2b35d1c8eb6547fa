"""Feeding: batches from a folder of shards. A record passes source, reading, rows, prepare and batch, in this order."""

from trainer.data.loader import Loader
from trainer.data.prepare import Options

__all__ = ["Loader", "Options"]

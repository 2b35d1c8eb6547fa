"""Open what training wrote: a checkpoint of a recipe of ours, or of a user's own."""

from __future__ import annotations

from pathlib import Path

from pairloom.loader.tokenizer import Tokenizer
from systems.parts import Shelf
from trainer import checkpoint
from trainer.learner import Learner


def load(out: Path, beside: Path | None = None) -> tuple[Learner, Tokenizer]:
    """The learner, in evaluation, and its tokenizer.

    beside: the folder of the user's own modules, where the recipe names any. Raises InputError if the checkpoint is
    not there or damaged.
    """
    return checkpoint.load(out, Shelf(None if beside is None else str(beside.resolve())))

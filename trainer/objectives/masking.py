"""Which words and regions are hidden: the draws that objectives share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from schemas.table import Array
from trainer.batch import IGNORE, Regions, Words
from trainer.tokenizer import Tokenizer


def at_least_one(eligible: Array, probability: float, rng: np.random.Generator) -> Array:
    """Each eligible place with this probability; if that leaves none, one of them, all equally likely.

    eligible: bool. Returns bool of that shape; all False only if nothing is eligible.
    UNITER's code does the same for regions, but takes the first word of a caption where no word was drawn.
    """
    chosen: Array = eligible & (rng.random(eligible.shape) < probability)
    if not chosen.any() and eligible.any():
        chosen[rng.choice(np.flatnonzero(eligible))] = True
    return chosen


def mask_words(words: Words, tokenizer: Tokenizer, probability: float, rng: np.random.Generator) -> Words:
    """Hide tokens to be predicted: 80 % become the mask, 10 % a random token, 10 % stay (BERT, arXiv:1810.04805, A.1).

    Only tokens that are part of a word are drawn: never start, end or padding. A random token is an ordinary one,
    never a special one, and may be the token itself. An empty caption stays without labels.
    """
    assert tokenizer.mask is not None, "the recipe was refused before"
    chosen = at_least_one(words.word_ids_T >= 0, probability, rng)
    fate = rng.random(len(chosen))
    substitute = rng.choice(tokenizer.ordinary, len(chosen))
    shown = np.where(fate < 0.8, tokenizer.mask, np.where(fate < 0.9, substitute, words.ids_T))
    return replace(words, ids_T=np.where(chosen, shown, words.ids_T), labels_T=np.where(chosen, words.ids_T, IGNORE))


def mask_regions(regions: Regions, probability: float, rng: np.random.Generator) -> Regions:
    """Hide regions to be predicted, at least one; all that are drawn are hidden, none is left as it was (UNITER)."""
    return replace(regions, masked_R=at_least_one(np.ones(len(regions.boxes_R7), bool), probability, rng))

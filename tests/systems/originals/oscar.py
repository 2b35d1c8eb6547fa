"""Oscar and VinVL (arXiv:2004.06165, arXiv:2101.00529): how two texts become tokens, and how often one is wrong."""

from __future__ import annotations

import logging
import random
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.systems.originals import rates
from tests.systems.originals.drawn import Numbers
from tests.systems.originals.taking import Originals

REPOSITORY, COMMIT = "microsoft/Oscar", "dc2dd8e170ce7919fe6e98a2c71ab4d5af816fa9"
ROOM, ROWS = 35, 20_000
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [f"w{number}" for number in range(60)]
LENGTHS = [(5, 4), (20, 12), (20, 13), (40, 3), (3, 40), (16, 17), (40, 40), (31, 1), (33, 1), (17, 15)]
SYSTEMS = {"oscar": (2, 0.0), "vinvl": (3, 0.25)}  # kinds that are told apart, and share of wrong captions


def texts(first: int, second: int) -> tuple[list[str], list[str]]:
    return WORDS[:first], WORDS[-second:]


def run(folder: Path) -> tuple[Any, Numbers]:
    original = Originals(folder, REPOSITORY, COMMIT)
    original.put(logging=logging)
    names = ("InputFeatures", "random_word", "_truncate_seq_pair", "convert_example_to_features")
    original.take("oscar/datasets/oscar_tsv.py", *names, "OscarTSVDataset.random_sent")
    found: Numbers = {"layout": [layout(original, *lengths) for lengths in LENGTHS],
                      "hidden words": rates.tally(lambda length: hide_words(original, length))}  # fmt: skip
    found |= {system: labels(original, *settings) for system, settings in SYSTEMS.items()}
    return original.facts(), found


def layout(original: Originals, first: int, second: int) -> Numbers:
    """Token ids and segments, nothing hidden."""
    original.put(random=SimpleNamespace(random=lambda: 1.0))
    numbers = {word: number for number, word in enumerate(SPECIAL + WORDS)}
    tokenizer = SimpleNamespace(vocab=numbers, convert_tokens_to_ids=lambda words: [numbers[word] for word in words])
    settings = SimpleNamespace(num_contrast_classes=2, texta_false_prob=0, mask_loss_for_unmatched=True,
                               max_img_seq_length=0)  # fmt: skip
    one, other = texts(first, second)
    example = SimpleNamespace(tokens_a=list(one), tokens_b=list(other), is_next=0, is_img_match=0, guid=1)
    found = original.convert_example_to_features(settings, example, ROOM, tokenizer, 0)
    original.put(random=random)
    length = sum(found.input_mask)
    return {"ids": found.input_ids[:length], "segments": found.segment_ids[:length]}


def labels(original: Originals, kinds: int, wrong: float) -> Numbers:
    """Shares of the rows with each label."""
    random.seed(0)
    own = SimpleNamespace(
        args=SimpleNamespace(texta_false_prob=wrong, num_contrast_classes=kinds, use_b=True),
        get_corpus_line=lambda _: ("image", "caption", "tags"), get_random_line=lambda: ("other", "tags"),
        get_random_texta=lambda: ("other", "caption"),
    )  # fmt: skip
    counts = Counter(original.random_sent(own, 0)[3] for _ in range(ROWS))
    return {str(label): counts[label] / ROWS for label in range(kinds)}


def hide_words(original: Originals, length: int) -> tuple[list[bool], list[int]]:
    tokens, labels = original.random_word([str(rates.WORD)] * length, SimpleNamespace(vocab=rates.TOKENS))
    return [label != -1 for label in labels], rates.kinds_of(tokens)

"""SpanBERT (arXiv:1907.10529), whose spans UNIMO hides: how long they are, and which words of a caption they cover."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.systems.originals.drawn import Numbers
from tests.systems.originals.taking import Originals

REPOSITORY, COMMIT = "facebookresearch/SpanBERT", "5dd2131ffb6ccff86c0ee746f7c0bb0179dd15f4"
SHARE, CAPTIONS, LENGTHS = 0.25, 20_000, (8, 20)


def run(folder: Path) -> tuple[Any, Numbers]:
    original = Originals(folder, REPOSITORY, COMMIT)
    names = ("ParagraphInfo", "MaskingScheme", "PairWithSpanMaskingScheme", "merge_intervals", "pad_to_len")
    original.take("pretraining/fairseq/data/masking.py", *names, "span_masking")
    words = SimpleNamespace(is_start_word=lambda word: True)
    settings = SimpleNamespace(
        mask_ratio=SHARE, max_pair_targets=20, span_lower=1, span_upper=10, geometric_p=0.2, tagged_anchor_prob=0,
        replacement_method="word_piece", endpoints="external", return_only_spans=True,
    )  # fmt: skip
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # it prints its lengths
        scheme = original.PairWithSpanMaskingScheme(settings, [7], 0, 1, original.ParagraphInfo(words))
    np.random.seed(0)
    found: Numbers = {"lengths": scheme.len_distrib}
    for length in LENGTHS:
        rows = [scheme.mask(np.full(length, 5))[1] != 0 for _ in range(CAPTIONS)]
        found[str(length)] = summary(np.array(rows))
    return original.facts(), found


def summary(hidden: Any) -> Numbers:
    """hidden: (captions, length) bool. Means: hidden words, runs of them, how often the first and the last is one."""
    return {"hidden": float(hidden.sum(axis=1).mean()), "runs": float(runs(hidden).mean()),
            "first": float(hidden[:, 0].mean()), "last": float(hidden[:, -1].mean())}  # fmt: skip


def runs(hidden: Any) -> Any:
    return hidden[:, 0].astype(int) + (hidden[:, 1:] & ~hidden[:, :-1]).sum(axis=1)

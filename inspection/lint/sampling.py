"""Which images of a large table the checks between tables look at: those with the lowest ids, in every table the same.

An image's id is a hash of its bytes, so that they are drawn as by chance, and memory does not grow with the data.
"""

from __future__ import annotations

import numpy as np

from inspection.columns import Array
from inspection.lint.problem import Findings
from pairloom.store.folder import Folder

MOST = 500_000  # images of a table, about
STEPS = 1 << 16  # shares are told apart by an id's first two bytes


def share_of(
    folder: Folder, findings: Findings, what: str = "what other tables say of its images was checked"
) -> float:
    """The share of a table's images that is looked at. Less than all is noted. what: is looked at."""
    share = min(1.0, MOST / max(folder.rows, 1))
    if share < 1:
        findings.note(f"{folder.path}: {what} for those with the lowest ids, about {MOST:,} of {folder.rows:,}")
    return share


def among(images: Array, share: float) -> Array:
    """Which of these ids, S16, belong to the share."""
    if share >= 1:
        return np.ones(len(images), np.bool_)
    first = np.ascontiguousarray(images).view(np.uint8).reshape(len(images), 16)[:, :2].astype(np.int64)
    chosen: Array = first[:, 0] * 256 + first[:, 1] < share * STEPS
    return chosen

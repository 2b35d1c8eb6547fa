"""What a stage or a training leaves in numbers: those that a person compares, and beside them all that is known.

DVC tracks METRICS/NAME.json. It holds nothing that a run changes which changes nothing: no times, and not how many
shards were made just now. METRICS/facts/NAME.json has these, and lists and tables too long for `dvc metrics show`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inspection.facts import FOLDER
from pairloom.store.writing import replace_text
from stages.contract import Counts

WAYS = ("text_to_image", "image_to_text")


def write(folder: Path, name: str, numbers: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Both files, each as JSON."""
    for path, values in ((folder / f"{name}.json", numbers), (folder / FOLDER / f"{name}.json", facts)):
        replace_text(path, json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def of_stage(counts: Counts, shards: int, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Rows and shards of a finished table, and those numbers of the stage's summary that stand alone."""
    found = {"rows_in": counts.rows_in, "rows_out": counts.rows_out, "left_out": sum(counts.rejected.values())}
    return (
        found | {"shards": shards} | {name: value for name, value in summary.items() if isinstance(value, int | float)}
    )


def of_training(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Of each objective its held-out loss and its score, if it has one; of retrieval the share found at once."""
    objectives, retrieval = metrics["objectives"], metrics["retrieval"] or {}
    scores = {name: one["score"] for name, one in objectives.items() if one["score"] is not None}
    found = {
        "loss": {name: one["held_out_loss"] for name, one in objectives.items()},
        "score": scores,
        "r_at_1": {way: retrieval[way]["r_at_1"] for way in WAYS if way in retrieval},
    }
    return {name: values for name, values in found.items() if values}

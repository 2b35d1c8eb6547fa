"""The report's chart of the hard negatives that come most often, from the metrics of the stage."""

from __future__ import annotations

import json
from pathlib import Path

from inspection.facts import facts_of
from inspection.report import charts
from inspection.report.distributions import Chart
from pairloom.errors import InputError

LETTERS = 40  # of a caption


def most_frequent(metrics: Path | None) -> list[Chart]:
    """One chart, or none where the stage left no metrics. Raises InputError if they cannot be read."""
    file = facts_of(metrics, "negatives") if metrics else None
    if file is None or not file.is_file():
        return []
    try:
        found = json.loads(file.read_text(encoding="utf-8")).get("summary", {})
        items = [(item["text"][:LETTERS], float(item["times"])) for item in found.get("most_frequent", [])]
        share = found.get("short_share", 0.0)
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"the metrics cannot be read: {error!r}", str(file), "run `pairloom stage negatives` again"
        ) from error
    note = f"captions that are negatives most often; {share:.1%} of all captions have fewer negatives than asked for"
    return [Chart("Most frequent hard negatives", note, charts.bars(items, "times", 4))] if items else []

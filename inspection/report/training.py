"""What the recipes learned: curves, held-out losses and retrieval, from the trainer's metrics and plots."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from inspection.facts import facts_of
from inspection.report import charts
from pairloom.errors import InputError

DIRECTIONS = (("text_to_image", "text to image"), ("image_to_text", "image to text"))


@dataclass(frozen=True)
class TrainedRecipe:
    """One trained recipe for the page."""

    name: str
    facts: dict[str, Any]  # steps, parameters, rows …
    series: list[str]  # names of the curve's lines, in the order of their colours
    curve: Markup | None
    objectives: dict[str, dict[str, Any]] = field(default_factory=dict)
    retrieval: list[dict[str, Any]] = field(default_factory=list)


def recipes(metrics: Path | None, plots: Path | None) -> list[TrainedRecipe]:
    """Every recipe that has a metrics file train-<name>.json, by name. Raises InputError if one can't be read."""
    files = sorted(metrics.glob("train-*.json")) if metrics and metrics.is_dir() else []
    return [_recipe(file, plots / f"{file.stem}.csv" if plots else None) for file in files]


def _recipe(file: Path, plot: Path | None) -> TrainedRecipe:
    found = _read(facts_of(file.parent, file.stem))
    curve = read_curve(plot) if plot and plot.is_file() else {}
    retrieval = found.get("retrieval") or {}
    return TrainedRecipe(
        name=file.stem.removeprefix("train-"),
        facts={name: found[name] for name in ("steps", "batch_size", "parameters", "seed") if name in found},
        series=list(curve),
        curve=charts.lines(curve, "step") if curve else None,
        objectives=found.get("objectives") or {},
        retrieval=[{"direction": title, **retrieval[key]} for key, title in DIRECTIONS if key in retrieval],
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"the metrics cannot be read: {error}", str(file), "train that recipe again") from error
    if not isinstance(found, dict):
        raise InputError("the metrics are not a mapping", str(file), "train that recipe again")
    return found


def read_curve(file: Path) -> dict[str, list[tuple[float, float]]]:
    """Every column beside `step` of a file that training wrote, as a line. What is no number is left out."""
    series: dict[str, list[tuple[float, float]]] = {}
    with file.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            step = _number(row.get("step"))
            for name, text in row.items():
                if name != "step" and math.isfinite(step):
                    series.setdefault(name, []).append((step, _number(text)))
    return {name: line for name, line in series.items() if any(math.isfinite(y) for _, y in line)}


def _number(text: object) -> float:
    try:
        return float(str(text))
    except ValueError:
        return math.nan

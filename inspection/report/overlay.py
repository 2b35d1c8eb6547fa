"""Two datasets or runs over each other: what share of each has a value, and the loss curves of their recipes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from inspection.report import charts
from inspection.report.counting import STEP, Counts
from inspection.report.distributions import WORDS, Chart, binned, described
from inspection.report.training import read_curve

SIDES = ("A", "B")
# Classes of the style sheet
LINES = {"A": "l0", "B": "l1 dashed"}
BARS = {"A": "c0", "B": "c1"}


def distributions(counts: tuple[Counts, Counts]) -> list[Chart]:
    """One chart for each kind of count that either side has, those that differ most first.

    Each side is drawn in percent of its own values, so that a large dataset and a small one can be compared. `apart`
    in a note is the total variation distance of what is drawn: 0 % for the same shares, 100 % for nothing in common.
    """
    numbers = [
        ("Image size", "sides", "longer side, pixels"),
        ("Caption length", "characters", "characters"),
        ("Regions an image", "regions", "regions"),
        ("Similarity of hard negatives", "similarities", "cosine similarity"),
        ("Missing negatives", "short", "missing for a caption"),
    ]
    words = [("Tags", "tags"), ("Languages", "languages"), ("Kinds", "kinds"), ("Sources", "sources")]
    made = [_outlines(title, *_of(counts, name), label) for title, name, label in numbers if any(_of(counts, name))]
    made += [_bars(title, *_of(counts, name)) for title, name in words if any(_of(counts, name))]
    return [chart for _, chart in sorted(made, key=lambda item: -item[0])]


def _of(counts: tuple[Counts, Counts], name: str) -> tuple[Counter[Any], Counter[Any]]:
    return getattr(counts[0], name), getattr(counts[1], name)


def _outlines(title: str, one: Counter[int], other: Counter[int], label: str) -> tuple[float, Chart]:
    steps = label == "cosine similarity"  # counted in units of STEP
    last = max(one | other)
    edges = [float(step) for step in range(last + 2)] if steps else binned(one + other)[1]
    heights = [_heights(counts, edges) for counts in (one, other)]
    moved = apart(Counter(dict(enumerate(heights[0]))), Counter(dict(enumerate(heights[1]))))
    shown = [STEP * edge for edge in edges] if steps else edges
    said = [_said(side, counts, steps) for side, counts in zip(SIDES, (one, other), strict=True)]
    shares = dict(zip(SIDES, map(_percent, heights), strict=True))
    return moved, Chart(title, _note(said, moved), charts.outlines(shares, shown, label, LINES), _legend(LINES))


def _said(side: str, counts: Counter[int], steps: bool) -> str:
    if not counts:
        return f"{side}: none"
    return f"{side}: {counts.total():,} values" if steps else f"{side}: {described(counts)}"


def _heights(counts: Counter[int], edges: Sequence[float]) -> list[int]:
    """Values by bin. The bins are of equal width."""
    width = edges[1] - edges[0]
    heights = [0] * (len(edges) - 1)
    for value, times in counts.items():
        heights[int((value - edges[0]) // width)] += times
    return heights


def _percent(heights: Sequence[int]) -> list[float]:
    total = sum(heights) or 1
    return [100 * height / total for height in heights]


def _bars(title: str, one: Counter[str], other: Counter[str]) -> tuple[float, Chart]:
    shares = {
        side: {name: 100 * times / (counts.total() or 1) for name, times in counts.items()}
        for side, counts in zip(SIDES, (one, other), strict=True)
    }
    names = sorted(one | other, key=lambda name: (-max(each.get(name, 0.0) for each in shares.values()), name))
    items = [(name, {side: each.get(name, 0.0) for side, each in shares.items()}) for name in names[:WORDS]]
    said = [f"{side}: {len(counts):,} different" for side, counts in zip(SIDES, (one, other), strict=True)]
    moved = apart(one, other)
    return moved, Chart(title, _note(said, moved), charts.grouped(items, title.lower(), BARS), _legend(BARS))


def _note(said: Sequence[str], moved: float) -> str:
    return f"{'; '.join(said)}; {moved:.0%} apart"


def _legend(styles: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((style, side) for side, style in styles.items())


def apart(one: Counter[Any], other: Counter[Any]) -> float:
    """The total variation distance of two sets of counts as shares: 0 to 1. 1 where only one of them has any."""
    totals = one.total(), other.total()
    if not all(totals):
        return float(any(totals))
    return sum(abs(one[key] / totals[0] - other[key] / totals[1]) for key in one.keys() | other.keys()) / 2


def curves(plots: tuple[Path | None, Path | None]) -> list[Chart]:
    """One chart an objective: its loss in every recipe of both sides, a recipe in one colour, side B dashed.

    plots: folders with the train-<recipe>.csv that `pairloom train` writes. An objective of more recipes than there
    are colours has several charts.
    """
    found = {
        (objective, recipe, side): line
        for side, folder in zip(SIDES, plots, strict=True)
        for recipe, curve in _recipes(folder)
        for objective, line in curve.items()
    }
    made = []
    for objective in sorted({objective for objective, _, _ in found}):
        recipes = sorted({recipe for named, recipe, _ in found if named == objective})
        for start in range(0, len(recipes), charts.COLOURS):
            some = recipes[start : start + charts.COLOURS]
            lines = {(recipe, side): found.get((objective, recipe, side)) for recipe in some for side in SIDES}
            made.append(_curves(objective, some, {key: line for key, line in lines.items() if line}))
    return made


def _curves(objective: str, recipes: Sequence[str], lines: dict[tuple[str, str], list[charts.Point]]) -> Chart:
    series = {f"{recipe}, {side}": line for (recipe, side), line in lines.items()}
    dashes = {"A": "", "B": " dashed"}
    styles = {f"{recipe}, {side}": f"l{recipes.index(recipe)}{dashes[side]}" for recipe, side in lines}
    note = "; ".join(f"{name} ends at {charts.number(line[-1][1])}" for name, line in series.items())
    drawing = charts.lines(series, "step", styles=styles)
    return Chart(f"Loss of {objective}", note, drawing, tuple((style, name) for name, style in styles.items()))


def _recipes(folder: Path | None) -> Iterator[tuple[str, dict[str, list[charts.Point]]]]:
    for file in sorted(folder.glob("train-*.csv")) if folder and folder.is_dir() else []:
        yield file.stem.removeprefix("train-"), read_curve(file)


def folder_of(data: Path, name: str) -> Path | None:
    """The folder `plots` or `metrics` of a dataset: in it, as `pairloom run` leaves it, or beside it, as DVC does."""
    return next((folder for folder in (data / name, data.resolve().parent / name) if folder.is_dir()), None)

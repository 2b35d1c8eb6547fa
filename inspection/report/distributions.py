"""The report's charts and totals, drawn from the counts of a whole dataset."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from markupsafe import Markup

from inspection.report import charts
from inspection.report.counting import STEP, Counts

BINS = 24  # of a histogram, at most
FEWEST = 8  # bins, so that one value is no wall
WORDS = 12  # the most frequent ones of a chart


@dataclass(frozen=True)
class Chart:
    """A drawing with its title and one sentence."""

    title: str
    note: str
    drawing: Markup
    legend: tuple[tuple[str, str], ...] = ()  # (class of the style sheet, what has it)


@dataclass(frozen=True)
class Total:
    """A number over the whole dataset; key is its name in the report's summary."""

    key: str
    label: str
    value: int


def totals(counts: Counts) -> list[Total]:
    """The headline numbers, without those that are 0; of a table that was counted in part, in proportion."""

    def whole(stage: str, counted: int) -> int:
        share = counts.shares.get(stage, 1.0)
        return round(counted / share) if share else 0

    languages = f"captions in {len(counts.languages)} languages" if len(counts.languages) > 1 else "captions"
    regions = sum(number * times for number, times in counts.regions.items())
    found = [
        Total("captions", languages, whole("curate", counts.characters.total())),
        Total("regions", "regions", whole("regions", regions)),
        Total("tags", "object tags", whole("tags", counts.tags.total())),
        Total("negatives", "hard negatives", whole("negatives", counts.similarities.total())),
    ]
    return [total for total in found if total.value]


def counted_in_part(counts: Counts) -> str:
    """What the page says of tables that were too large to be counted whole. Empty if none was."""
    parts = [f"{stage} ({share:.1%} of its rows)" for stage, share in counts.shares.items() if share < 1]
    return (
        f"Counted in shards spread evenly over {', '.join(parts)}; numbers of all are in proportion." if parts else ""
    )


def draw(counts: Counts) -> list[Chart]:
    """One chart for each count that is not empty."""
    histograms = [
        ("Image size", "longer side as stored", counts.sides, "pixels", 0),
        ("Caption length", "all languages", counts.characters, "characters", 1),
        ("Regions an image", "as stored; a recipe reads a prefix", counts.regions, "regions", 2),
        ("Missing negatives", _complete(counts.short), counts.short, "missing for a caption", 7),
    ]
    bars = [
        ("Tags", f"{len(counts.tags):,} different ones; the most frequent", counts.tags, 3),
        ("Languages", "captions of each", counts.languages, 5),
        ("Kinds", "captions of each", counts.kinds, 4),
        ("Sources", "images of each", counts.sources, 6),
    ]
    made = [_histogram(*histogram) for histogram in histograms[:3] if histogram[2]]
    if counts.similarities:
        made.append(_similarities(counts.similarities))
    made += [_histogram(*histogram) for histogram in histograms[3:] if histogram[2]]
    return made + [_bars(*chart) for chart in bars if len(chart[2]) > 1]


def _complete(short: Counter[int]) -> str:
    return f"{short[0] / max(short.total(), 1):.0%} of the captions have as many as asked for"


def _similarities(counts: Counter[int]) -> Chart:
    last = max(counts)
    edges = [i * STEP for i in range(last + 2)]
    drawing = charts.histogram([counts[i] for i in range(last + 1)], edges, "cosine similarity", 4)
    return Chart("Similarity of hard negatives", f"{counts.total():,} negatives", drawing)


def _histogram(title: str, note: str, counts: Counter[int], label: str, colour: int) -> Chart:
    heights, edges = binned(counts)
    return Chart(title, f"{note}; {described(counts)}", charts.histogram(heights, edges, label, colour))


def _bars(title: str, note: str, counts: Counter[str], colour: int) -> Chart:
    items = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:WORDS]
    return Chart(title, note, charts.bars([(name, float(times)) for name, times in items], title.lower(), colour))


def binned(counts: Counter[int]) -> tuple[list[int], list[float]]:
    """(heights, edges) of FEWEST to about BINS bins of equal whole width that hold every value."""
    low, high = min(counts), max(counts)
    low = 0 if low < high / 2 or high < FEWEST else low
    width = max(1, math.ceil((high - low + 1) / BINS))
    if width > 1:
        width = math.ceil(charts.nice_ceiling(width))
        low = low // width * width
    heights = [0] * max(FEWEST, (high - low) // width + 1)
    for value, times in counts.items():
        heights[(value - low) // width] += times
    return heights, [float(low + i * width) for i in range(len(heights) + 1)]


def described(counts: Counter[int]) -> str:
    """Median (the lower one of two) and range of the counted values."""
    if len(counts) == 1:
        return f"{next(iter(counts)):,} everywhere"
    passed, half = 0, counts.total() / 2
    for value in sorted(counts):
        passed += counts[value]
        if passed >= half:
            return f"median {value:,}, from {min(counts):,} to {max(counts):,}"
    return "none"

"""One self-contained HTML page about a dataset: no request leaves it, and its size doesn't grow with the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from inspection import templates
from inspection.dataset import Dataset, open_dataset
from inspection.drawing import COLOURS
from inspection.flow import Flow
from inspection.report import charts, collect
from inspection.report.beside import beside
from inspection.report.counting import count
from inspection.report.distributions import counted_in_part, draw, totals
from inspection.report.doubts import doubts
from inspection.report.duplicates import duplicates
from inspection.report.gallery import NEGATIVES, gallery
from inspection.report.hosts import hosts
from inspection.report.negatives import most_frequent
from inspection.report.training import recipes
from inspection.report.truth import OVERLAP, THRESHOLDS, VISIBLE, compare
from inspection.starter import starter_notes

HERE = Path(__file__).parent
SEED = 2  # of the choice of pictures


def write_report(
    data: Path,
    out: Path,
    stages: Flow,
    metrics: Path | None = None,
    plots: Path | None = None,
    other: Path | None = None,
    other_name: str = "",
) -> dict[str, Any]:
    """Write the page about the tables below `data` to `out`. The same data give the same bytes.

    metrics, plots: folders with train-<recipe>.json and .csv, shown where they exist. other: a second dataset, which
    is shown beside this one, under other_name. Returns a summary. Raises StoreError if there is no table, or one
    cannot be read.
    """
    found = _opened(data, stages)
    flow = collect.flow(found)
    counts = count(found)
    cards = gallery(found, SEED)
    comparison = compare(found, Path(data) / "sample" / "truth.parquet")
    trained = recipes(metrics, plots)
    summary: dict[str, Any] = _sums(flow) | {"pictures": len(cards), "recipes": [recipe.name for recipe in trained]}
    summary |= {total.key: total.value for total in totals(counts)}
    if comparison:
        summary["truth"] = [comparison.at(threshold) for threshold in THRESHOLDS]
    html = _template().render(
        summary=summary,
        flow=flow,
        **_findings(found),
        beside=beside(found, counts, _opened(other, stages), other_name, (metrics, plots)) if other else None,
        cards=cards,
        charts=[*draw(counts), *most_frequent(metrics)],
        totals=totals(counts),
        in_part=counted_in_part(counts),
        comparison=comparison,
        curve=charts.lines({"regions": comparison.curve()}, "recall", ((0, 0), (1, 1))) if comparison else None,
        recipes=trained,
        limits={"negatives": NEGATIVES, "overlap": OVERLAP, "visible": VISIBLE},
        colours=COLOURS,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(html, encoding="utf-8")
    return summary | {"page_bytes": len(html.encode())}


def _sums(flow: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows, losses and bytes over all stages."""
    rows = {stage["stage"]: stage["rows"] for stage in flow}
    return {
        "images": rows.get("shards", rows.get("curate", 0)),
        "rows": rows,
        "left_out": sum(stage["left_out"] for stage in flow),
        "quarantined": sum(stage["quarantined"] for stage in flow),
        "captions_lost": collect.captions_lost(flow),
        "bytes": sum(stage["bytes"] for stage in flow),
    }


def _findings(found: Dataset) -> dict[str, Any]:
    """What the page says of the tables as they are, by the names that the template has for it."""
    return {
        "name": collect.name(found),
        "about": collect.about(found),
        "notes": starter_notes(found.tables.values()),
        "failures": collect.failures(found),
        "hosts": hosts(found),
        "duplicates": duplicates(found),
        "doubts": doubts(found),
        "provenance": collect.provenance(found),
    }


def _opened(path: Path, stages: Flow) -> Dataset:
    found = open_dataset(path, stages)
    for error in found.broken.values():
        raise error
    return found


def _template() -> jinja2.Template:
    environment = templates.environment(HERE)
    environment.filters["number"] = charts.number
    environment.filters["percent"] = lambda value: f"{value:.0%}" if value >= 0.1 else f"{value:.1%}"
    return environment.get_template("report.html.j2")

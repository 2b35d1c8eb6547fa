"""One self-contained HTML page about a dataset: no request leaves it, and its size doesn't grow with the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from inspection.dataset import open_dataset
from inspection.drawing import COLOURS
from inspection.flow import Flow
from inspection.info import size
from inspection.report import charts, collect
from inspection.report.counting import count
from inspection.report.distributions import counted_in_part, draw, totals
from inspection.report.gallery import NEGATIVES, gallery
from inspection.report.negatives import most_frequent
from inspection.report.training import recipes
from inspection.report.truth import OVERLAP, THRESHOLDS, VISIBLE, compare

HERE = Path(__file__).parent
SEED = 2  # of the choice of pictures


def write_report(
    data: Path, out: Path, stages: Flow, metrics: Path | None = None, plots: Path | None = None
) -> dict[str, Any]:
    """Write the page about the tables below `data` to `out`; the same data give the same bytes.

    metrics, plots: folders with train-<recipe>.json and .csv, shown where they exist. Returns a summary.
    Raises StoreError if there is no table, or one cannot be read.
    """
    found = open_dataset(data, stages)
    for error in found.broken.values():
        raise error
    flow = collect.flow(found)
    failures = collect.failures(found)
    cards = gallery(found, SEED)
    comparison = compare(found, Path(data) / "sample" / "truth.parquet")
    trained = recipes(metrics, plots)
    rows = {stage["stage"]: stage["rows"] for stage in flow}
    summary: dict[str, Any] = {
        "images": rows.get("shards", rows.get("curate", 0)),
        "rows": rows,
        "left_out": sum(stage["left_out"] for stage in flow),
        "quarantined": sum(stage["quarantined"] for stage in flow),
        "captions_lost": collect.captions_lost(flow),
        "bytes": sum(stage["bytes"] for stage in flow),
        "pictures": len(cards),
        "recipes": [recipe.name for recipe in trained],
    }
    counts = count(found)
    summary |= {total.key: total.value for total in totals(counts)}
    if comparison:
        summary["truth"] = [comparison.at(threshold) for threshold in THRESHOLDS]
    html = _template().render(
        summary=summary,
        flow=flow,
        failures=failures,
        cards=cards,
        charts=[*draw(counts), *most_frequent(metrics)],
        totals=totals(counts),
        in_part=counted_in_part(counts),
        comparison=comparison,
        curve=charts.lines({"regions": comparison.curve()}, "recall", ((0, 0), (1, 1))) if comparison else None,
        recipes=trained,
        provenance=collect.provenance(found),
        limits={"negatives": NEGATIVES, "overlap": OVERLAP, "visible": VISIBLE},
        colours=COLOURS,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(html, encoding="utf-8")
    return summary | {"page_bytes": len(html.encode())}


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["size"] = size
    environment.filters["number"] = charts.number
    environment.filters["count"] = lambda value: f"{value:,}"
    environment.filters["percent"] = lambda value: f"{value:.0%}" if value >= 0.1 else f"{value:.1%}"
    return environment.get_template("report.html.j2")

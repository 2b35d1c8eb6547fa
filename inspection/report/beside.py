"""A second dataset or run beside the one that a report is about: A is the report's, B the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inspection.dataset import Dataset
from inspection.diff import changed_values
from inspection.info import table_info
from inspection.report import collect
from inspection.report.counting import Counts, count
from inspection.report.distributions import Chart, counted_in_part
from inspection.report.overlay import SIDES, curves, distributions, folder_of
from inspection.report.training import TrainedRecipe, recipes


@dataclass(frozen=True)
class Beside:
    """What of two datasets stands side by side; of each pair the first is A's. None: that side has no such thing."""

    place: str  # of B, as it was named
    names: tuple[str, str]
    stages: list[tuple[str, list[dict[str, Any] | None]]]  # each with inspection.info's facts of both
    reasons: list[tuple[str, str, list[int]]]  # stage, reason, rows left out
    settings: list[tuple[str, str, list[Any]]]  # stage, setting, values that differ
    charts: list[Chart]
    in_part: list[str]
    curves: list[Chart]
    learned: list[tuple[str, str, list[float | None]]]  # recipe, figure, values


def beside(found: Dataset, counts: Counts, other: Dataset, place: str, ours: tuple[Path | None, Path | None]) -> Beside:
    """ours: A's folders of metrics and plots. Those of B lie in its folder, or beside it."""
    theirs = [folder_of(other.root, name) for name in ("metrics", "plots")]
    theirs = [None if _same(mine, its) else its for mine, its in zip(ours, theirs, strict=True)]
    others = count(other)
    notes = [counted_in_part(each) for each in (counts, others)]
    facts = [{stage: table_info(folder, each.flow) for stage, folder in each.tables.items()} for each in (found, other)]
    order = list(dict.fromkeys([*facts[0], *facts[1]]))
    return Beside(
        place=place,
        names=(collect.name(found), collect.name(other)),
        stages=[(stage, [side.get(stage) for side in facts]) for stage in order],
        reasons=_reasons(order, facts),
        settings=_settings(order, found, other),
        charts=distributions((counts, others)),
        in_part=[f"{side}: {note}" for side, note in zip(SIDES, notes, strict=True) if note],
        curves=curves((ours[1], theirs[1])),
        learned=_learned([recipes(metrics, None) for metrics in (ours[0], theirs[0])]),
    )


def _same(one: Path | None, other: Path | None) -> bool:
    return one is not None and other is not None and one.resolve() == other.resolve()


def _reasons(order: Sequence[str], facts: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, list[int]]]:
    """The reasons of each stage, those first whose numbers differ most."""
    found = []
    for stage in order:
        counts = [side[stage]["quarantined_by_reason"] if stage in side else {} for side in facts]
        found += [(stage, reason, [each.get(reason, 0) for each in counts]) for reason in counts[0] | counts[1]]
    return sorted(found, key=lambda one: (-abs(one[2][0] - one[2][1]), one[0], one[1]))


def _settings(order: Sequence[str], found: Dataset, other: Dataset) -> list[tuple[str, str, list[Any]]]:
    """Settings, versions and files of each stage of both that differ."""
    made = []
    for stage in order:
        if stage in found.tables and stage in other.tables:
            sides = [each.tables[stage].header for each in (found, other)]
            known = [
                {**header.config, "version": header.stage_version, "pairloom": header.pairloom}
                | {f"file {name}": digest for name, digest in header.resources.items()}
                for header in sides
            ]
            made += [(stage, key, both) for key, both in changed_values(*known).items()]
    return made


def _learned(sides: Sequence[Sequence[TrainedRecipe]]) -> list[tuple[str, str, list[float | None]]]:
    """Held-out losses and recalls of every recipe of either side."""
    figures = [{(recipe.name, key): value for recipe in side for key, value in _figures(recipe)} for side in sides]
    return [(*key, [side.get(key) for side in figures]) for key in dict.fromkeys([*figures[0], *figures[1]])]


def _figures(recipe: TrainedRecipe) -> list[tuple[str, float | None]]:
    losses = [(f"held-out loss of {name}", row.get("held_out_loss")) for name, row in recipe.objectives.items()]
    return losses + [(f"recall at 1, {row['direction']}", row.get("r_at_1")) for row in recipe.retrieval]

"""The table of docs/systems.md: what each recipe learned, beside chance and the margin that it promises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.errors import InputError

BEGIN, END = "<!-- recipes: begin -->", "<!-- recipes: end -->"
HEAD = (
    "| recipe | task | held-out loss, untrained → trained | score | chance | margin promised | held |",
    "|---|---|---|---|---|---|---|",
)


@dataclass(frozen=True)
class Line:
    """One task of one recipe; margin None: nothing is promised but a falling loss."""

    recipe: str
    task: str
    losses: tuple[float, float] | None  # held out, before and after; None where the task has none
    score: float | None
    chance: float | None
    margin: float | None

    @property
    def holds(self) -> bool:
        """The loss fell, and the score is above chance by the margin."""
        fell = self.losses is None or self.losses[1] < self.losses[0]
        if self.margin is None:
            return fell
        return fell and self.score is not None and self.chance is not None and self.score >= self.chance + self.margin

    def markdown(self) -> str:
        losses = "" if self.losses is None else f"{self.losses[0]:.3f} → {self.losses[1]:.3f}"
        shares = (_percent(share) for share in (self.score, self.chance, self.margin))
        return f"| `{self.recipe}` | {self.task} | {losses} | {' | '.join(shares)} | {'yes' if self.holds else 'no'} |"


def lines(metrics: Mapping[str, Any], expects: Mapping[str, float]) -> list[Line]:
    """What the metrics of one training say: a line an objective, and one for retrieval, text to image."""
    name, found = metrics["recipe"], metrics["retrieval"]
    told = [
        Line(
            name,
            task,
            (value["untrained_loss"], value["held_out_loss"]),
            value["score"],
            value["chance"],
            expects.get(task),
        )
        for task, value in metrics["objectives"].items()
    ]
    if found:
        figures = found["text_to_image"]
        for cut in (1, 10):
            margin = expects.get("retrieval") if cut == 10 else None
            recall, chance = figures[f"r_at_{cut}"], figures[f"chance_r_at_{cut}"]
            told.append(Line(name, f"R@{cut} of {found['images']} images", None, recall, chance, margin))
    return told


def table(told: Sequence[Line]) -> str:
    return "\n".join([*HEAD, *(line.markdown() for line in told)])


def put_into(document: str, text: str, where: str) -> str:
    """The document with the text between its two marks. Raises InputError if it has none."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError("it has no place for the table", where, f"put {BEGIN} and {END} on lines of their own")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"

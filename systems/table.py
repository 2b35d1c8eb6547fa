"""The table of docs/lab/systems.md: what each recipe learned, beside chance and the margin that it promises."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from pairloom.errors import InputError

BEGIN, END = "<!-- recipes: begin -->", "<!-- recipes: end -->"
HEAD = (
    "| recipe | task | held-out loss, untrained → trained | score | chance | margin promised | held |",
    "|---|---|---|---|---|---|---|",
)


@dataclass(frozen=True)
class Line:
    """One task of one recipe. `margin` None: nothing is promised but a falling loss."""

    recipe: str  # with its variant and another seed than 0, such as `vit pixels seed 1`
    task: str
    losses: tuple[float, float] | None  # held out, before and after. None where the task has none
    score: float | None
    chance: float | None
    margin: float | None
    predictions: int = 0  # behind the score, 0 where it is not known

    @property
    def holds(self) -> bool:
        """The loss fell, and the score is above chance by the margin."""
        fell = self.losses is None or self.losses[1] < self.losses[0]
        if self.margin is None:
            return fell
        return fell and self.score is not None and self.chance is not None and self.score >= self.chance + self.margin

    def markdown(self) -> str:
        losses = "" if self.losses is None else f"{self.losses[0]:.3f} → {self.losses[1]:.3f}"
        shares = (f"{_percent(self.score)}{self._error()}", _percent(self.chance), _percent(self.margin))
        return f"| `{self.recipe}` | {self.task} | {losses} | {' | '.join(shares)} | {'yes' if self.holds else 'no'} |"

    def _error(self) -> str:
        """One standard error of the score, as of independent predictions, in points."""
        if self.score is None or not self.predictions:
            return ""
        return f" ± {100 * (self.score * (1 - self.score) / self.predictions) ** 0.5:.1f}"


def lines(metrics: Mapping[str, Any], expects: Mapping[str, float], variant: str | None = None) -> list[Line]:
    """What the metrics of one training say: a line an objective, and one for retrieval, text to image.

    A seed other than 0 is named, so that its lines stand beside those of seed 0.
    """
    words = [metrics["recipe"], variant, f"seed {metrics['seed']}" if metrics["seed"] else None]
    name, found = " ".join(word for word in words if word), metrics["retrieval"]
    trained = [
        Line(
            name,
            task,
            (value["untrained_loss"], value["held_out_loss"]),
            value["score"],
            value["chance"],
            expects.get(task),
            value["predictions"],
        )
        for task, value in metrics["objectives"].items()
    ]
    if found:
        figures = found["text_to_image"]
        for cut in (1, 10):
            margin = expects.get("retrieval") if cut == 10 else None
            recall, chance = figures[f"r_at_{cut}"], figures[f"chance_r_at_{cut}"]
            task = f"R@{cut} of {found['images']} images"
            trained.append(Line(name, task, None, recall, chance, margin, found["captions"]))
    return trained


def table(trained: Sequence[Line]) -> str:
    return "\n".join([*HEAD, *(line.markdown() for line in trained)])


def put_into(document: str, trained: Sequence[Line], where: str) -> str:
    """The document with these lines in the table between its two marks, in place of the same recipes' older lines.

    Raises InputError if it has no such place.
    """
    before, begin, rest = document.partition(BEGIN)
    inside, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError("it has no place for the table", where, f"put {BEGIN} and {END} on lines of their own")
    measured = {line.recipe for line in trained}
    kept = [(name, row) for row in inside.splitlines() if (name := _recipe(row)) and name not in measured]
    rows = sorted([*kept, *((line.recipe, line.markdown()) for line in trained)], key=itemgetter(0))
    text = "\n".join([*HEAD, *(row for _, row in rows)])
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def _recipe(row: str) -> str | None:
    """The recipe of a line of the table. None for its head."""
    found = re.match(r"\| `([\w ]+)` \|", row)
    return found and found[1]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"

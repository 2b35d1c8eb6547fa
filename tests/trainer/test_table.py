"""The table of docs/systems.md: what counts as held, and that the document has a place for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import InputError
from trainer import table

HERE = Path(__file__).resolve().parents[2]
METRICS = {
    "recipe": "uniter",
    "objectives": {"mlm": {"untrained_loss": 7.0, "held_out_loss": 3.0, "score": 0.5, "chance": 0.2}},
    "retrieval": {"images": 48, "text_to_image": {"r_at_1": 0.1, "chance_r_at_1": 0.02, "r_at_10": 0.5,
                                                  "chance_r_at_10": 0.2}},
}  # fmt: skip


@pytest.mark.parametrize(("margin", "holds"), [(0.3, True), (0.31, False), (None, True)])
def test_a_margin_holds_if_the_score_is_above_chance_by_it(margin: float | None, holds: bool) -> None:
    expects = {} if margin is None else {"mlm": margin}
    mlm, first, tenth = table.lines(METRICS, expects)
    assert mlm.holds == holds
    assert first.holds
    assert tenth.margin is None


def test_a_loss_that_rises_does_not_hold() -> None:
    assert not table.Line("uniter", "mlm", (1.0, 1.1), 0.9, 0.1, 0.1).holds


def test_the_table_takes_the_place_between_its_marks_and_nothing_else() -> None:
    document = f"a\n{table.BEGIN}\nold\n{table.END}\nb\n"
    assert table.put_into(document, "new", "x") == f"a\n{table.BEGIN}\nnew\n{table.END}\nb\n"
    with pytest.raises(InputError):
        table.put_into("a", "new", "x")
    systems = (HERE / "docs" / "systems.md").read_text(encoding="utf-8")
    assert table.put_into(systems, "new", "x").count("new\n") >= 1

"""The table of docs/lab/systems.md: what counts as held, and that the document has a place for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pairloom.errors import InputError
from systems import recipes, table

HERE = Path(__file__).resolve().parents[2]
METRICS = {
    "recipe": "uniter",
    "seed": 0,
    "objectives": {"mlm": {"untrained_loss": 7.0, "held_out_loss": 3.0, "score": 0.5, "chance": 0.2,
                           "predictions": 400}},
    "retrieval": {"images": 48, "captions": 240, "text_to_image": {"r_at_1": 0.1, "chance_r_at_1": 0.02, "r_at_10": 0.5,
                                                  "chance_r_at_10": 0.2}},
}  # fmt: skip


@pytest.mark.parametrize(("margin", "holds"), [(0.3, True), (0.31, False), (None, True)])
def test_a_margin_holds_if_the_score_is_above_chance_by_it(margin: float | None, holds: bool) -> None:
    expects = {} if margin is None else {"mlm": margin}
    mlm, first, tenth = table.lines(METRICS, expects)
    assert mlm.holds == holds
    assert first.holds
    assert tenth.margin is None


def test_a_score_has_its_standard_error_and_a_variant_its_own_lines() -> None:
    mlm, _, tenth = table.lines(METRICS, {}, "pixels")
    assert "| `uniter pixels` | mlm | 7.000 → 3.000 | 50.0 % ± 2.5 |" in mlm.markdown()  # √(.5 · .5 / 400)
    assert "± 3.2" in tenth.markdown()  # √(.5 · .5 / 240)
    document = f"{table.BEGIN}\n| `uniter` | mlm | old |\n| `uniter pixels` | mlm | old |\n{table.END}"
    put = table.put_into(document, [mlm], "x").splitlines()
    assert put[3:5] == ["| `uniter` | mlm | old |", mlm.markdown()]


def test_another_seed_stands_beside_the_first() -> None:
    one, other = (table.lines(METRICS | {"seed": seed}, {}, "pixels")[0] for seed in (0, 1))
    put = table.put_into(f"{table.BEGIN}\n{one.markdown()}\n{table.END}", [other], "x").splitlines()
    assert put[3:5] == [one.markdown(), other.markdown()]
    assert "| `uniter pixels seed 1` | mlm |" in put[4]


def test_a_loss_that_rises_does_not_hold() -> None:
    assert not table.Line("uniter", "mlm", (1.0, 1.1), 0.9, 0.1, 0.1).holds


def test_the_lines_take_the_place_of_the_same_recipes_and_nothing_else() -> None:
    line = table.Line("uniter", "mlm", (2.0, 1.0), 0.5, 0.25, None)
    others = "| `align` | contrastive | a |\n| `villa` | mlm | b |"
    document = f"a\n{table.BEGIN}\n| recipe |\n| `uniter` | itm | old |\n{others}\n{table.END}\nb\n"
    put = table.put_into(document, [line], "x")
    align, villa = others.splitlines()
    rows = "\n".join([*table.HEAD, align, "| `uniter` | mlm | 2.000 → 1.000 | 50.0 % | 25.0 % |  | yes |", villa])
    assert put == f"a\n{table.BEGIN}\n{rows}\n{table.END}\nb\n"
    assert table.put_into(put, [line], "x") == put
    with pytest.raises(InputError):
        table.put_into("a", [line], "x")


def test_the_documents_own_table_is_read_as_it_was_written() -> None:
    systems = (HERE / "docs" / "lab" / "systems.md").read_text(encoding="utf-8")
    assert table.put_into(systems, [], "x") == systems


def test_a_recipe_promises_nothing_of_what_is_left_out_or_what_another_recipe_says(tmp_path: Path) -> None:
    assert {"qa", "mlm"} <= recipes.load("lxmert", "tiny").expects.keys()
    assert recipes.load("lxmert", "tiny", {"only": ["itm", "mlm"]}).expects.keys() == {"itm", "mlm", "retrieval"}
    own = tmp_path / "own.yaml"
    for name, variant in (("uniter", None), ("align", "pixels")):
        assert recipes.load(name, "tiny", variant=variant).expects
        own.write_text(f"extends: {name}\n", encoding="utf-8")
        assert recipes.load(own, "tiny", variant=variant).expects == {}


def test_make_recipes_trains_the_variant_of_every_recipe_that_has_one() -> None:
    made = next(line for line in (HERE / "Makefile").read_text("utf-8").splitlines() if line.startswith("PIXELS := "))
    assert made.split()[2:] == [name for name in recipes.names() if "pixels" in recipes.variants(name)]

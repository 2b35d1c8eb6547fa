"""docs/reference/recipes.md is what the recipes' files say today."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from pipeline.recipes_page import OURS, PAGE, UNSURE, recipes_markdown
from systems.recipes import load, names, path_of

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / PAGE).read_text(encoding="utf-8")


def section(name: str) -> str:
    (text,) = (part for part in TEXT.split("\n## ") if part.startswith(f"{name}\n"))
    return text


def test_the_committed_page_is_up_to_date() -> None:
    assert recipes_markdown() == TEXT, f"run `python -m pipeline.pages` and commit {PAGE}"


@pytest.mark.parametrize("name", names())
def test_each_recipe_has_its_paper_units_objectives_and_what_is_unsure(name: str) -> None:
    text, file = section(name), path_of(name).read_text(encoding="utf-8")
    document = yaml.safe_load(file)
    assert document["paper"] in text
    recipe = load(name)
    assert f"| reads | `{recipe.units.name}`: " in text
    assert all(f"`{column}`" in text for column in recipe.columns())
    for objective, part in recipe.objectives.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{objective}`"))
        assert f"| {part.ratio:g} | {part.weight:g}" in row
    body = re.split(r"^(?:sizes|expects):", file, maxsplit=1, flags=re.MULTILINE)[0]
    lines = [line for line in body.splitlines() if UNSURE.search(line) and not line.startswith("#")]
    assert bool(lines) == ("**unsure**" in text)
    assert not any(f"| `{ours}." in text for ours in OURS)


def test_weights_and_starts_beside_a_ratio_are_told() -> None:
    # LXMERT: questions count twice and from the middle of the training on (section 4 of arXiv:1908.07490)
    assert "| `qa` | `pretrain` | 1 | 2, from 50% of the training |" in section("lxmert")
    # UNITER: 2 to 2 to 1 to 1 of its code, each a step of its own
    ratios = dict(re.findall(r"^\| `(\w+)` \| `\1` \| (\d) \|", section("uniter"), re.MULTILINE))
    assert ratios == {"mlm": "2", "itm": "2", "mrfr": "1", "mrc": "1"}

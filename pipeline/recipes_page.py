"""docs/reference/recipes.md: every recipe that ships, from its YAML: paper, objectives, what its comments say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from inspection.markdown import table, wrapped
from pipeline.yaml_comments import Said, comments_of, head_of
from systems import recipes
from trainer.recipe import SHARED, Recipe

PAGE = "docs/reference/recipes.md"
OURS = (
    "sizes.tiny",
    "variants.pixels",
    "expects",
    "paper",
)  # settings that no paper has. The paper has a line of its own
UNSURE = re.compile(r"\bunsure\b|\bnot (?:said|given|told|known)\b|\bdoes not say\b", re.IGNORECASE)
HEAD = """# Recipes

Written by `python -m pipeline.pages` from `systems/recipes/*.yaml`. Edit those, not this page.

For people who choose a system, or who ask how far one is its paper's. Each recipe has its paper, what it reads of the
shards, its objectives, and the settings about which its file says something: whose number it is, or how it stands to
the paper or the authors' code. A setting that is
not listed has no comment: it follows the paper. **unsure** marks what the sources do not say or
where they contradict each other. Objectives of one step share a batch and a pass of the model. A step is drawn as often
as the ratios of its objectives together. `pairloom recipe show NAME` prints the file itself. Size `base` is the
published shape and stands here. [Systems](systems.md) compares at length.
"""


def recipes_markdown() -> str:
    """The whole page."""
    names = recipes.names()
    links = wrapped(f"Recipes: {', '.join(f'[{name}](#{name})' for name in names)}.")
    return "\n".join([HEAD, links, "", *(line for name in names for line in _section(name))]).rstrip() + "\n"


def _section(name: str) -> Iterator[str]:
    recipe, text = recipes.load(name), recipes.path_of(name).read_text(encoding="utf-8")
    document = yaml.safe_load(text)
    yield from (f"## {name}", "", wrapped(_about(text)), "")
    yield from table(("what", "is"), _facts(recipe, document))
    yield from table(
        ("objective", "step", "ratio", "weight", "settings"), (_objective(recipe, key) for key in recipe.objectives)
    )
    said = [each for each in comments_of(text) if not each.path.startswith(OURS)]
    yield from table(
        ("setting", "here", "what the file says"),
        ((f"`{each.path}`", f"`{each.value}`" if each.value else "", _marked(each)) for each in said),
    )


def _about(text: str) -> str:
    """What the file says of itself, without the line that each has."""
    return " ".join(line for line in head_of(text) if "`sizes` says what" not in line)


def _facts(recipe: Recipe, document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "paper", recipe.paper
    if "extends" in document:
        yield "extends", f"[{document['extends']}](#{document['extends']}); what is not said here is said there"
    yield "reads", f"`{recipe.units.name}`: {', '.join(f'`{column}`' for column in recipe.columns())}"
    yield "units", _given(*recipe.source["units"].values())
    yield "text", f"`{recipe.text.tokenizer}`, {recipe.text.vocab_size} tokens, at most {recipe.text.max_tokens} a text"
    yield "model", f"`{recipe.model.name}`"
    steps = f"{recipe.training.steps} steps of {recipe.training.batch_size}, `{recipe.training.optimiser}`"
    yield "training", f"{steps}, lr {recipe.training.lr:g}"
    yield "sizes", ", ".join(f"`{size}`" for size in ("base", *document.get("sizes", {})))
    if variants := recipes.variants(recipe.name):
        yield "variants", ", ".join(f"`{name}`" for name in variants)


def _objective(recipe: Recipe, name: str) -> tuple[str, ...]:
    part = recipe.objectives[name]
    module = "" if part.name == name else f" (`{part.name}`)"
    weight = f"{part.weight:g}" + (f", from {part.start:.0%} of the training" if part.start else "")
    step = f"`{part.step or name}`" + (", a pass apart" if part.apart else "")
    return f"`{name}`{module}", step, f"{part.ratio:g}", weight, _given(recipe.source["objectives"][name])


def _given(settings: Mapping[str, Any] | None) -> str:
    """What the recipe's file, or the one it extends, gives for a part beside the settings that every part has."""
    own = {key: value for key, value in (settings or {}).items() if key not in (*SHARED, "module")}
    return ", ".join(f"`{name}: {_flow(value)}`" for name, value in own.items())


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def _marked(said: Said) -> str:
    comment = re.sub(r"^unsure\b[;:,]? *", "", said.comment)
    return " ".join(["**unsure**", comment]).strip() if UNSURE.search(said.comment) else said.comment

"""Each module of systems/ fits trainer/contract.py: mypy checks the assignments, a test that none is missing."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import cast

import pytest

from systems.models import (
    cross_modal,
    dual_encoder,
    efficient_dual,
    encoder_decoder,
    grid_stream,
    interaction,
    patch_stream,
    single_stream,
    two_stream,
    vilt,
    vit,
)
from systems.objectives import (
    aligned,
    classes,
    cmcl,
    colours,
    contrastive,
    detection,
    itm,
    mlm,
    mrc,
    mrfr,
    mvm,
    patch_kl,
    polluted,
    prefix_lm,
    puzzles,
    qa,
    reconstruction,
    seq2seq,
)
from systems.units import patches, pixels, regions
from trainer.contract import (
    Alone,
    Countable,
    Matcher,
    Model,
    Numbering,
    Objective,
    Pairing,
    Published,
    Reading,
    Resizing,
    Unit,
)

FOLDER = Path(__file__).resolve().parents[2] / "systems"

UNITS: tuple[Unit, ...] = (patches, pixels, regions)
COUNTABLE: tuple[Countable, ...] = (patches, regions)
MODELS: tuple[Model, ...] = (
    *(cross_modal, dual_encoder, efficient_dual, encoder_decoder, grid_stream, interaction, patch_stream),
    *(single_stream, two_stream, vilt, vit),
)
PUBLISHED: tuple[Published, ...] = (
    *(cross_modal, dual_encoder, efficient_dual, grid_stream, interaction, patch_stream, single_stream),
    *(two_stream, vilt, vit),
)
OBJECTIVES: tuple[Objective, ...] = (
    *(aligned, classes, cmcl, colours, contrastive, detection, itm, mlm, mrc, mrfr, mvm, patch_kl, polluted),
    *(prefix_lm, puzzles, qa, reconstruction, seq2seq),
)
PAIRING: tuple[Pairing, ...] = (itm, polluted, qa)
ALONE: tuple[Alone, ...] = (mlm, prefix_lm)
RESIZING: tuple[Resizing, ...] = (mrc, mrfr, seq2seq)
MATCHERS: tuple[Matcher, ...] = (cmcl, contrastive, itm, polluted)
READING: tuple[Reading, ...] = (aligned, classes, cmcl, detection, itm, mrc, polluted, qa)
NUMBERING: tuple[Numbering, ...] = (qa,)


@pytest.mark.parametrize(("kind", "checked"), [("units", UNITS), ("models", MODELS), ("objectives", OBJECTIVES)])
def test_every_module_that_a_recipe_can_name_is_checked(kind: str, checked: tuple[object, ...]) -> None:
    names = {cast(ModuleType, module).__name__.rpartition(".")[2] for module in checked}
    files = {file.stem for file in (FOLDER / kind).glob("*.py") if "\nclass Settings" in file.read_text("utf-8")}
    assert names == files


@pytest.mark.parametrize(
    ("part", "kind", "having"),
    [
        ("length", "units", COUNTABLE),
        ("published", "models", PUBLISHED),
        ("pair", "objectives", PAIRING),
        ("text_alone", "objectives", ALONE),
        ("resizes", "objectives", RESIZING),
        ("similarity", "objectives", MATCHERS),
        ("columns", "objectives", READING),
        ("NUMBERED_BY", "objectives", NUMBERING),
    ],
)
def test_every_module_with_an_optional_part_is_checked(part: str, kind: str, having: tuple[object, ...]) -> None:
    all_of_kind = {"units": UNITS, "models": MODELS, "objectives": OBJECTIVES}[kind]
    assert {module for module in all_of_kind if hasattr(module, part)} == set(having)

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
    grounding,
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
    soft_answers,
    two_images,
)
from systems.units import patches, pixels, regions
from trainer.contract import (
    AllAtOnce,
    Alone,
    Countable,
    Matcher,
    Model,
    Numbering,
    Objective,
    Pairing,
    Preparing,
    PreparingAll,
    Published,
    Reading,
    Resizable,
    Resizing,
    Unit,
    VectorMatcher,
)

FOLDER = Path(__file__).resolve().parents[2] / "systems"

UNITS: tuple[Unit, ...] = (patches, pixels, regions)
ALL_AT_ONCE: tuple[AllAtOnce, ...] = (patches, regions)
RESIZABLE: tuple[Resizable, ...] = (pixels,)
COUNTABLE: tuple[Countable, ...] = (patches, regions)
MODELS: tuple[Model, ...] = (
    *(cross_modal, dual_encoder, efficient_dual, encoder_decoder, grid_stream, interaction, patch_stream),
    *(single_stream, two_stream, vilt, vit),
)
PUBLISHED: tuple[Published, ...] = (
    *(cross_modal, dual_encoder, efficient_dual, encoder_decoder, grid_stream, interaction, patch_stream),
    *(single_stream, two_stream, vilt, vit),
)
OBJECTIVES: tuple[Objective, ...] = (
    *(aligned, classes, cmcl, colours, contrastive, detection, grounding, itm, mlm, mrc, mrfr, mvm),
    *(patch_kl, polluted, prefix_lm, puzzles, qa, reconstruction, seq2seq, soft_answers, two_images),
)
PREPARING: tuple[Preparing, ...] = (
    *(classes, cmcl, colours, detection, mvm, prefix_lm, qa, reconstruction, seq2seq, soft_answers),
)
PREPARING_ALL: tuple[PreparingAll, ...] = (aligned, mlm, mrc, mrfr, patch_kl, puzzles)
PAIRING: tuple[Pairing, ...] = (itm, polluted, qa, soft_answers)
ALONE: tuple[Alone, ...] = (mlm, prefix_lm)
RESIZING: tuple[Resizing, ...] = (mrc, mrfr, seq2seq)
MATCHERS: tuple[Matcher, ...] = (cmcl, contrastive, itm, polluted)
VECTOR_MATCHERS: tuple[VectorMatcher, ...] = (contrastive,)
READING: tuple[Reading, ...] = (aligned, classes, cmcl, detection, itm, mrc, polluted, qa, soft_answers)
NUMBERING: tuple[Numbering, ...] = (qa, soft_answers)


@pytest.mark.parametrize(("kind", "checked"), [("units", UNITS), ("models", MODELS), ("objectives", OBJECTIVES)])
def test_every_module_that_a_recipe_can_name_is_checked(kind: str, checked: tuple[object, ...]) -> None:
    names = {cast(ModuleType, module).__name__.rpartition(".")[2] for module in checked}
    files = {file.stem for file in (FOLDER / kind).glob("*.py") if "\nclass Settings" in file.read_text("utf-8")}
    assert names == files


@pytest.mark.parametrize(
    ("part", "kind", "having"),
    [
        ("length", "units", COUNTABLE),
        ("load_all", "units", ALL_AT_ONCE),
        ("load_unresized", "units", RESIZABLE),
        ("prepare", "objectives", PREPARING),
        ("prepare_all", "objectives", PREPARING_ALL),
        ("published", "models", PUBLISHED),
        ("pair", "objectives", PAIRING),
        ("text_alone", "objectives", ALONE),
        ("resizes", "objectives", RESIZING),
        ("similarity", "objectives", MATCHERS),
        ("of_vectors", "objectives", VECTOR_MATCHERS),
        ("columns", "objectives", READING),
        ("NUMBERED_BY", "objectives", NUMBERING),
    ],
)
def test_every_module_with_an_optional_part_is_checked(part: str, kind: str, having: tuple[object, ...]) -> None:
    all_of_kind = {"units": UNITS, "models": MODELS, "objectives": OBJECTIVES}[kind]
    assert {module for module in all_of_kind if hasattr(module, part)} == set(having)

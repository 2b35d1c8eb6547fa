"""A pair is encoded the same alone as in any batch: padding of words, regions and pictures changes nothing."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pairloom.loader import Loader
from pairloom.loader.batch import Batch
from schemas.shards import SHARDS
from systems import recipes
from tests.building import negative, training_shard, write_table
from tests.evaluation import scenes
from tests.pairloom.loader.loading import PATCHED, patches, write_folder
from tests.systems.test_pixels import batch_of, tiny
from tests.systems.test_systems import opened
from trainer.contract import Embedded, Encoded
from trainer.learner import Learner, shapes_of

SHAPED = ("pixelbert", "soho", "e2e_vlp", "simvlm", "vilt")  # those that may read pictures of any shape
REGIONS = ("interbert", "lxmert", "oscar", "unimo", "uniter", "vilbert", "villa", "vinvl")
OTHERS = sorted({*recipes.names()} - {*SHAPED, *REGIONS})  # pictures or crops of one shape, or none
CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}
SIDES = st.sampled_from([32, 48, 64, 80, 96])


def together(pictures: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Pictures of several shapes filled up at the right and below, and the mask of what is theirs."""
    down, across = (max(picture.shape[axis] for picture in pictures) for axis in (1, 2))
    pixels, mask = (
        torch.zeros(len(pictures), 3, down, across),
        torch.zeros(len(pictures), down, across, dtype=torch.bool),
    )
    for row, picture in enumerate(pictures):
        pixels[row, :, : picture.shape[1], : picture.shape[2]] = picture
        mask[row, : picture.shape[1], : picture.shape[2]] = True
    return pixels, mask


@pytest.fixture(scope="module", params=SHAPED)
def model(request: pytest.FixtureRequest) -> Any:
    return tiny(request.param).model


@settings(deadline=None, max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sides=st.lists(st.tuples(SIDES, SIDES), min_size=2, max_size=4), seed=st.integers(0, 99))
def test_a_picture_is_encoded_alone_as_beside_others(model: Any, sides: list[tuple[int, int]], seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    pictures = [torch.randn(3, down, across, generator=random) for down, across in sides]
    texts = [torch.tensor([2, *[7, 8, 9][: 1 + row % 3], 3]) for row in range(len(pictures))]
    batch = batch_of(nn.utils.rnn.pad_sequence(texts, batch_first=True))
    batch.pixels_B3SS, batch.pixel_mask_BSS = together(pictures)
    with torch.no_grad():
        found = model(batch)
        for row, picture in enumerate(pictures):
            single = batch_of(texts[row][None])
            single.pixels_B3SS = picture[None]
            alone = model(single)
            torch.testing.assert_close(found.pooled_BH[row], alone.pooled_BH[0], **CLOSE)
            words_TH = found.words_BTH[row, : len(texts[row])]
            torch.testing.assert_close(words_TH, alone.words_BTH[0], **CLOSE)
            assert int(found.units_BU[row].sum()) == int(alone.units_BU.sum())


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("shards"), (9, 8))


def trimmed(batch: Batch, row: int) -> Batch:
    """One row without the padding that it has beside others."""
    one = batch.take(torch.tensor([row]))
    words, regions = one.words, one.regions
    own = columns(words, words.attention_mask_BT[0].nonzero().squeeze(1))
    if regions is None:
        return replace(one, words=own)
    return replace(one, words=own, regions=columns(regions, regions.mask_BR[0].nonzero().squeeze(1)))


def columns(part: Any, kept: Tensor) -> Any:
    parts = {field.name: getattr(part, field.name) for field in fields(part)}
    return replace(part, **{name: value[:, kept] for name, value in parts.items() if value is not None})


@pytest.mark.parametrize("name", REGIONS)
def test_regions_and_words_are_encoded_alone_as_beside_others(name: str, shards: Path) -> None:
    learner, loader = opened(name, shards)
    learner.eval()
    batch = next(iter(loader))
    assert batch.regions is not None
    nothing = torch.zeros_like(batch.regions.masked_BR)  # a hidden region may show one of another row, as published
    batch = replace(batch, regions=replace(batch.regions, masked_BR=nothing, shown_BR=None), causal=False)
    assert not batch.regions.mask_BR.all()  # type: ignore[union-attr]
    with torch.no_grad():
        found = learner.model(batch)
        for row in range(len(batch)):
            alone = learner.model(trimmed(batch, row))
            torch.testing.assert_close(found.pooled_BH[row], alone.pooled_BH[0], **CLOSE)
            seen = batch.words.attention_mask_BT[row]
            torch.testing.assert_close(found.words_BTH[row][seen], alone.words_BTH[0], **CLOSE)
            seen = batch.regions.mask_BR[row]  # type: ignore[union-attr]
            torch.testing.assert_close(found.units_BUH[row][seen], alone.units_BUH[0], **CLOSE)


@pytest.fixture(scope="module")
def scenes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, their crops and regions, with captions of one to six words in two languages."""
    rows = []
    for number in range(6):
        texts = [(" ".join(["red", "dog", "and", "blue", "cup", "here"][: 1 + number]), "en"), ("ein Hund", "de")]
        captions = [{"text": text, "original": text, "lang": lang} for text, lang in texts]
        own = {"captions": captions, "negatives": [[negative("a tree")]] * 2, "short": [29] * 2}
        rows.append(scenes.row(number) | patches(number) | own)
    made = training_shard(rows, "train", scenes.METADATA | PATCHED)
    return write_table(tmp_path_factory.mktemp("scenes") / "shards", SHARDS, {"train-00000": made}, indexed=True)


@pytest.mark.parametrize("name", OTHERS)
def test_a_row_is_encoded_alone_as_beside_others(name: str, scenes_folder: Path) -> None:
    """Its words without the padding that they have beside longer ones."""
    torch.manual_seed(0)
    recipe = recipes.load(name, "tiny", {"training": {"batch_size": 6}})
    loader = Loader(scenes_folder, recipe, batch_size=6)
    learner = Learner(recipe, shapes_of(recipe, loader.tokenizer, loader.metadata())).eval()
    batch = next(iter(loader))
    targets = {key: value for key, value in batch.targets.items() if key != "shown_U"}
    batch = replace(batch, targets=targets)  # a hidden patch may show one of another row, as published
    lengths_B = batch.words.attention_mask_BT.sum(dim=1)
    assert len(lengths_B.unique()) > 2
    with torch.no_grad():
        found = learner.model(batch)
        for row in range(len(batch)):
            alone = learner.model(trimmed(batch, row))
            assert isinstance(alone, Encoded | Embedded)
            given = {field.name: getattr(alone, field.name) for field in fields(alone)}
            assert set(given) >= ({"pooled_BH"} if isinstance(alone, Encoded) else {"images_BE", "texts_BE"})
            for part, own in given.items():
                if own is None or own.shape[1] == 0:  # a model without words, or one that hides nothing here
                    continue
                theirs = getattr(found, part)[row]
                seen_T = batch.words.attention_mask_BT[row]
                torch.testing.assert_close(theirs[seen_T] if part == "words_BTH" else theirs, own[0], **CLOSE)

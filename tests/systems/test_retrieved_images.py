"""UNIMO's retrieved images: the loss by hand, against each side encoded by itself, and paraphrases as positives."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from pairloom.errors import ConfigError
from pairloom.loader.batch import Batch, RegionBatch, Regions
from pairloom.loader.collate import collate
from pairloom.loader.examples import Examples
from pairloom.loader.make import Make
from pairloom.loader.row import Row
from pairloom.loader.rows import Rows, open_rows
from pipeline.advice import advised
from schemas.shards import SHARDS
from systems import recipes
from systems.objectives import cmcl, retrieved
from systems.objectives.masking import without_regions
from tests.building import training_row, training_shard, write_table
from tests.pairloom.loader.loading import METADATA, write_folder
from tests.systems.test_cmcl import head_by_hand, one_text, texts_of
from tests.systems.test_systems import opened
from trainer.contract import Encoded, Widths

TWO = {"cmcl": {"retrieved_images": 2}}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("shards"), (9, 8), group_rows=9)


@pytest.fixture(scope="module")
def rows(shards: Path) -> Rows:
    return open_rows(shards, "train", recipes.load("unimo").columns(), ())


class ByHand:
    """With an image and a text a score that is written down. An image alone is the mean of its features. A text alone

    is written down. A text is one token between a start (1) and an end (2).
    """

    widths, init_std, word_weight = Widths(2, 2, 2), 0.02, torch.zeros(1, 2)

    def __init__(self, together: dict[tuple[int, int], float], texts: dict[int, tuple[float, float]]) -> None:
        self.together, self.texts, self.seen = together, texts, Counter[str]()

    def __call__(self, batch: Batch) -> Encoded:
        nothing = torch.zeros(0)
        return Encoded(nothing, nothing, nothing, torch.stack([self.answer(batch, row) for row in range(len(batch))]))

    def answer(self, batch: Batch, row: int) -> torch.Tensor:
        assert batch.regions is not None
        tokens = batch.words.input_ids_BT[row][batch.words.attention_mask_BT[row]].tolist()
        features = batch.regions.features_BRD[row][batch.regions.mask_BR[row]]
        self.seen["image" if len(tokens) == 2 else "both" if len(features) else "text"] += 1
        if len(tokens) == 2:
            return features.mean(dim=0)
        if not len(features):
            return torch.tensor(self.texts[tokens[1]])
        return torch.tensor([self.together[int(batch.image_ids[row][0]), tokens[1]], 0.0])


def loss_by_hand(**settings: Any) -> tuple[float, ByHand]:
    """Images 1 and 2, captions 11 and 12, one negative (20). Image 1 has two retrieved images, 2 has one."""
    model = ByHand({(1, 11): 1.0, (1, 20): 0.5, (2, 12): 0.25, (2, 20): -1.0}, {11: (1.0, 0.0), 12: (0.0, 2.0)})
    boxes, features = torch.zeros(2, 3, 7), torch.zeros(2, 3, 2)
    features[0] = torch.tensor([[1.0, 0.0], [1.0, 8.0], [0.0, 5.0]])  # of two regions, whose mean is (1, 4), and of one
    features[1, 0] = torch.tensor([3.0, 4.0])
    sizes = torch.tensor([[2, 1], [1, 0]])
    numbers = torch.arange(2)
    regions = RegionBatch(torch.ones(2, 1, 2), torch.ones(2, 1, 7), torch.ones(2, 1).bool(), torch.zeros(2, 1).bool())
    targets = {retrieved.SIZES: sizes, retrieved.BOXES: boxes, retrieved.FEATURES: features}
    batch = Batch(
        (bytes([1]), bytes([2])), numbers, numbers, torch.zeros(2, dtype=torch.int64), one_text(texts_of([[11], [12]])),
        regions=regions, others=texts_of([[20, 0], [20, 0]]), targets=targets,
    )  # fmt: skip
    given: Any = {"positives": 0, "mined": 1, "rewritten": 0, "temperature": 0.5, "retrieved_images": 2, **settings}
    own: Any = model
    scored = cmcl.loss(own, own(batch), head_by_hand(), batch, cmcl.Settings(**given))
    return float(scored.loss.detach()), model


def test_retrieved_images_are_further_positives_by_hand() -> None:
    e, cosine = (
        math.exp,
        1 / math.sqrt(17),
    )  # of (1, 0) and (1, 4). Of (1, 0) and (0, 5) it is 0, and of (0, 2) and (3, 4) .8
    first = -math.log((e(2) + e(2 * cosine) + e(0)) / (e(2) + e(2 * cosine) + e(0) + e(1)))
    second = -math.log((e(0.5) + e(1.6)) / (e(0.5) + e(1.6) + e(-2)))
    found, model = loss_by_hand()
    assert found == pytest.approx((first + second) / 2, rel=1e-6)
    assert model.seen == {"both": 4, "image": 3, "text": 2}  # each caption once, and what is not there not at all


def test_their_product_is_the_settings() -> None:
    e = math.exp  # (1, 0)·(1, 4) is 1, (1, 0)·(0, 5) is 0, (0, 2)·(3, 4) is 8
    first = -math.log((e(2) + e(2) + e(0)) / (e(2) + e(2) + e(0) + e(1)))
    second = -math.log((e(0.5) + e(16)) / (e(0.5) + e(16) + e(-2)))
    assert loss_by_hand(product="dot")[0] == pytest.approx((first + second) / 2, abs=1e-6)


def prepared(row: Row, make: Make, settings: cmcl.Settings, seed: int) -> Any:
    return cmcl.prepare(make([make.pair(row)]).split()[0], row, make, settings, np.random.default_rng(seed))


@pytest.mark.parametrize("product", ["cosine", "dot"])
def test_a_retrieved_image_is_what_the_model_makes_of_that_image_by_its_own_row(
    shards: Path, rows: Rows, product: str
) -> None:
    """The truth is the other image's own row, cut to the regions that the column holds, and the caption without any."""
    learner, loader = opened("unimo", shards, objectives={"cmcl": {**TWO["cmcl"], "product": product}}, only=["cmcl"])
    learner.eval()
    make = Make(loader.tokenizer, learner.recipe.units, augment=False)
    settings: Any = learner.recipe.objectives["cmcl"].settings
    of_image = {row.image_id: row for row in rows.all()}
    chosen = [
        row for row in islice(rows.all(), 20) if {one["image_id"] for one in row.value("neighbours")} <= set(of_image)
    ]
    batch = collate([prepared(row, make, settings, 2) for row in chosen], make.tokenizer.pad)
    assert batch.others is not None
    nothing = one_text(replace_words(batch, settings.together))
    found = retrieved.image_scores(learner.model, batch, nothing, lambda a, b: cmcl.product(a, b, settings))
    counts = set()
    for row, scores in zip(chosen, found, strict=True):
        text = without_regions(Examples.united(make([make.pair(row)]).split())).split()[0]
        told = pooled(learner, text, make)
        wanted = []
        for one in row.value("neighbours"):
            example = make([make.pair(of_image[one["image_id"]])]).split()[0]
            units = example.units
            assert isinstance(units, Regions)
            cut = Regions(np.asarray(units.features_RD)[:2], units.boxes_R7[:2], units.masked_R[:2])
            image = pooled(learner, replace(example, words=make.tokenizer.words(""), units=cut), make)
            lengths = float(np.linalg.norm(image) * np.linalg.norm(told)) if product == "cosine" else 1.0
            wanted.append(float(image @ told) / lengths)
        counts.add(len(wanted))
        there = scores[scores > -math.inf].detach().numpy()
        np.testing.assert_allclose(sorted(there), sorted(wanted), rtol=1e-3, atol=1e-3)
    assert counts == {0, 1, 2}


def replace_words(batch: Batch, place: int) -> Any:
    assert batch.others is not None
    return type(batch.others)(*(getattr(batch.others, name)[:, place:] for name in batch.others.__dataclass_fields__))


def pooled(learner: Any, example: Any, make: Make) -> Any:
    bare = replace(example, others=(), targets={})
    return learner.model(collate([bare], make.tokenizer.pad)).pooled_BH[0].detach().numpy()


def test_each_image_is_drawn_alike_and_texts_are_as_without(shards: Path, rows: Rows) -> None:
    learner, loader = opened("unimo", shards, objectives=TWO, only=["cmcl"])
    make = Make(loader.tokenizer, learner.recipe.units, augment=False)
    row = next(row for row in rows.all() if len(row.value("neighbours")) == 2)
    example = make([make.pair(row)]).split()[0]
    features = row.numbers("neighbour_features")
    drawn = Counter[bool]()
    for seed in range(1000):
        targets = retrieved.with_images(example, row, 1, np.random.default_rng(seed)).targets
        drawn[bool((targets[retrieved.FEATURES][0] == features[0]).all())] += 1
    assert chisquare([drawn[True], drawn[False]]).pvalue > 1e-3
    settings: Any = learner.recipe.objectives["cmcl"].settings
    both = [prepared(row, make, replace(settings, retrieved_images=count), 3) for count in (0, 2)]
    for one, other in zip(both[0].others, both[1].others, strict=False):
        np.testing.assert_array_equal(one.ids_T, other.ids_T)


def test_a_step_with_texts_and_images_has_finite_gradients(shards: Path) -> None:
    own = {"cmcl": {"retrieved": 2, "retrieved_images": 2}}
    learner, loader = opened("unimo", shards, objectives=own, only=["cmcl"])
    for batch in islice(loader, 4):
        learner.zero_grad()
        learner(batch).loss.backward()
        assert all(torch.isfinite(p.grad).all() for p in learner.parameters() if p.grad is not None)


PARAPHRASED = ("a dog", "a hound", "ein Hund", "one dog is there")


@pytest.fixture(scope="module")
def paraphrased(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image with a caption, a paraphrase of it, a German one and another caption. And one without paraphrases."""
    kinds, langs = ("original", "paraphrase", "paraphrase", None), ("en", "en", "de", "en")
    captions: list[dict[str, Any]] = [
        {"text": text, "original": text, "lang": lang, "kind": kind}
        for text, lang, kind in zip(PARAPHRASED, langs, kinds, strict=True)
    ]
    both = [
        training_row(
            number, [one["text"] for one in own], np.ones((1, 4)), np.ones((1, 8)), captions=own,
            prob_ids=np.zeros((1, 2)), prob_values=np.zeros((1, 2)),
        )
        for number, own in enumerate((captions, [captions[0], captions[3]]))
    ]  # fmt: skip
    folder = tmp_path_factory.mktemp("paraphrased")
    return write_table(folder, SHARDS, {"train-00000": training_shard(both, "train", METADATA)}, indexed=True)


@pytest.mark.parametrize("draw", [[], [{"kinds": {"original": 1, "unknown": 1}}]])
def test_positives_are_the_images_paraphrases_where_it_has_any(paraphrased: Path, draw: list[Any]) -> None:
    learner, loader = opened("unimo", paraphrased, text={"draw": draw, "languages": []}, only=["cmcl"])
    settings: Any = replace(learner.recipe.objectives["cmcl"].settings, positives=4)
    make = Make(loader.tokenizer, learner.recipe.units, augment=False)
    rows = open_rows(paraphrased, "train", learner.recipe.columns(), (), draw=learner.recipe.text.draw)
    found = []
    for row in rows.all():
        if row.text == "a dog":
            positives = prepared(row, make, settings, 5).others[:4]
            found.append({make.tokenizer.backend.decode(words.ids_T.tolist()).strip() for words in positives})
    words = [make.tokenizer.backend.decode(make.tokenizer.words(text).ids_T.tolist()).strip() for text in PARAPHRASED]
    assert found == [{words[1]}, {words[3]}]


def test_what_is_wrong_is_named(tmp_path: Path, shards: Path) -> None:
    bare = write_folder(tmp_path / "bare", (6,), without=retrieved.COLUMNS)
    with pytest.raises(ConfigError, match="the shards lack the columns neighbour_boxes") as caught, advised():
        opened("unimo", bare, objectives=TWO)
    assert "set shards.neighbours: true in params.yaml, run the stages neighbours and then shards" in str(caught.value)
    with pytest.raises(ConfigError, match="retrieved_images is -1"):
        recipes.load("unimo", "tiny", {"objectives": {"cmcl": {"retrieved_images": -1}}})

"""UNIMO's contrast with retrieved texts: by hand, against each side encoded by itself, and where a caption has none."""

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
from torch import Tensor, nn
from torch.autograd import gradcheck

from pairloom.errors import ConfigError
from pairloom.loader import Loader
from pairloom.loader.batch import Batch, RegionBatch, Regions, WordBatch
from pairloom.loader.collate import collate
from pairloom.loader.examples import Examples
from pairloom.loader.make import Make
from pairloom.loader.row import Row
from pairloom.loader.rows import Rows, open_rows
from pipeline.advice import advised
from systems import recipes
from systems.objectives import cmcl
from systems.objectives.masking import without_regions
from tests.pairloom.loader.loading import write_folder
from tests.systems.test_systems import doubled, opened
from trainer.contract import Encoded, Shapes, Widths
from trainer.learner import Learner

RETRIEVED = {"cmcl": {"retrieved": 2}}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("shards"), (9, 8), group_rows=9)


@pytest.fixture(scope="module")
def rows(shards: Path) -> Rows:
    return open_rows(shards, "train", recipes.load("unimo").columns(), ())


def contrasted(shards: Path, batch_size: int = 6, **cmcl_settings: Any) -> tuple[Learner, Loader[Batch]]:
    return opened("unimo", shards, batch_size, objectives={"cmcl": {"retrieved": 2, **cmcl_settings}}, only=["cmcl"])


def settings_of(learner: Learner) -> cmcl.Settings:
    found = learner.recipe.objectives["cmcl"].settings
    assert isinstance(found, cmcl.Settings)
    return found


class ByHand:
    """A model whose answers are written down: by image and text, by image without a text, by text without an image.

    A text is one token between a start (1) and an end (2).
    """

    widths, init_std = Widths(2, 2, 2), 0.02
    word_weight = torch.zeros(1, 2)

    def __init__(self, together: dict[tuple[int, int], float], images: Any, texts: Any) -> None:
        self.together, self.alone_images, self.alone_texts = together, images, texts
        self.seen: Counter[str] = Counter()

    def __call__(self, batch: Batch) -> Encoded:
        assert batch.regions is not None
        rows = [self.answer(batch, row) for row in range(len(batch))]
        nothing = torch.zeros(0)
        return Encoded(nothing, nothing, nothing, torch.tensor(rows))

    def answer(self, batch: Batch, row: int) -> tuple[float, float]:
        assert batch.regions is not None
        tokens = batch.words.input_ids_BT[row][batch.words.attention_mask_BT[row]].tolist()
        regions = int(batch.regions.mask_BR[row].sum())
        image = int(batch.image_ids[row][0])
        self.seen["image" if len(tokens) == 2 else "both" if regions else "text"] += 1
        if len(tokens) == 2:
            assert regions
            found: tuple[float, float] = self.alone_images[image]
            return found
        text = tokens[1]
        return (self.together[image, text], 0.0) if regions else self.alone_texts[text]


def texts_of(ids: list[list[int]]) -> WordBatch:
    """(B, 3) of texts of one token each. 0 is the empty text."""
    tokens = torch.tensor([[[1, text, 2] if text else [1, 2, 0] for text in row] for row in ids])
    seen = tokens != 0
    return WordBatch(tokens, seen, torch.where(seen, 0, -1), torch.full_like(tokens, -100), torch.zeros_like(tokens))


def one_text(words: WordBatch) -> WordBatch:
    return WordBatch(*(getattr(words, name)[:, 0] for name in words.__dataclass_fields__))


def by_hand(counts: list[int]) -> tuple[ByHand, Batch]:
    """Images 1 and 2, captions 11 and 12, one negative (20), two texts alone (31, 32) of which `counts` are there."""
    joint = {(1, 11): 1.0, (1, 20): 0.5, (2, 12): 0.25, (2, 20): -1.0}
    model = ByHand(joint, {1: (2.0, 0.0), 2: (0.0, 3.0)}, {31: (0.6, 0.8), 32: (1.6, 1.2)})
    ids = [[20, 0, *(text if place < count else 0 for place, text in enumerate((31, 32)))] for count in counts]
    regions = RegionBatch(torch.ones(2, 1, 2), torch.ones(2, 1, 7), torch.ones(2, 1).bool(), torch.zeros(2, 1).bool())
    numbers = torch.arange(2)
    batch = Batch(
        (bytes([1]), bytes([2])), numbers, numbers, torch.zeros(2, dtype=torch.int64), one_text(texts_of([[11], [12]])),
        regions=regions, others=texts_of(ids), targets={"retrieved": torch.tensor(counts)},
    )  # fmt: skip
    return model, batch


def head_by_hand() -> nn.Linear:
    head = nn.Linear(2, 1)
    head.load_state_dict({"weight": torch.tensor([[1.0, 0.0]]), "bias": torch.zeros(1)})
    return head


def loss_by_hand(counts: list[int], **settings: Any) -> tuple[float, ByHand]:
    model, batch = by_hand(counts)
    given: Any = {"positives": 0, "mined": 1, "rewritten": 0, "temperature": 0.5, "retrieved": 2, **settings}
    own: Any = model
    scored = cmcl.loss(own, own(batch), head_by_hand(), batch, cmcl.Settings(**given))
    return float(scored.loss.detach()), model


def test_retrieved_texts_are_further_positives_by_hand() -> None:
    # τ is 0.5. Image 1 is (1, 0) at length 1, so its cosines are .6 and .8. Image 2 is (0, 1): .8 and .6
    e = math.exp
    first = -math.log((e(2) + e(1.2) + e(1.6)) / (e(2) + e(1.2) + e(1.6) + e(1)))
    second = -math.log((e(0.5) + e(1.6)) / (e(0.5) + e(1.6) + e(-2)))  # of the two texts it has one
    found, model = loss_by_hand([2, 1])
    assert found == pytest.approx((first + second) / 2, rel=1e-6)
    assert model.seen == {"both": 4, "image": 2, "text": 3}  # what is not there is not encoded


def test_the_dot_product_is_of_the_vectors_as_they_are_by_hand() -> None:
    e = math.exp  # image 1 is (2, 0): 1.2 and 3.2. Image 2 is (0, 3): 2.4
    first = -math.log((e(2) + e(2.4) + e(6.4)) / (e(2) + e(2.4) + e(6.4) + e(1)))
    second = -math.log((e(0.5) + e(4.8)) / (e(0.5) + e(4.8) + e(-2)))
    assert loss_by_hand([2, 1], product="dot")[0] == pytest.approx((first + second) / 2, abs=1e-6)


def test_a_caption_without_similar_ones_has_the_loss_of_its_pairs_alone_by_hand() -> None:
    pairs = [torch.tensor([[1.0, 0.5]]), torch.tensor([[0.25, -1.0]])]
    infonce = [float(nn.functional.cross_entropy(one / 0.5, torch.tensor([0]))) for one in pairs]
    found, model = loss_by_hand([0, 0])
    assert found == pytest.approx(sum(infonce) / 2, rel=1e-6)
    assert model.seen == {"both": 4}
    one_has, _ = loss_by_hand([0, 1])
    both_have, _ = loss_by_hand([1, 1])
    assert both_have < one_has < found  # each further positive lowers it


def test_the_share_that_is_right_is_of_the_pairs() -> None:
    model, batch = by_hand([2, 2])
    own: Any = model
    settings = cmcl.Settings(positives=0, mined=1, rewritten=0, temperature=1.0, retrieved=2)
    scored = cmcl.loss(own, own(batch), head_by_hand(), batch, settings)
    assert scored.right is not None
    assert (int(scored.right), scored.chance) == (2, 0.5)


def test_a_score_that_is_not_there_has_no_part_in_the_gradient() -> None:
    there = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    nowhere = torch.full((2, 1), -torch.inf, dtype=torch.float64)

    def value(scores: Tensor) -> Tensor:
        return cmcl.contrast(torch.cat([scores[:, :1], nowhere, scores[:, 1:]], dim=1), 3, 0.7)

    assert gradcheck(value, there)
    torch.testing.assert_close(value(there), cmcl.contrast(there, 2, 0.7))


def prepared(row: Row, learner: Learner, loader: Loader[Batch], seed: int, **changed: Any) -> Any:
    make = Make(loader.tokenizer, learner.recipe.units, augment=False)
    settings = replace(settings_of(learner), **changed)
    example = make([make.pair(row)]).split()[0]
    return cmcl.prepare(example, row, make, settings, np.random.default_rng(seed))


def test_texts_are_drawn_from_the_captions_own_column_none_twice_and_none_made_up(shards: Path, rows: Rows) -> None:
    learner, loader = contrasted(shards)
    together = settings_of(learner).together
    seen = set()
    for row in islice(rows.all(), 12):
        similar, number = row.similar(), int.from_bytes(row.image_id, "big")
        assert similar == [f"{row.text} {added}" for added in ("and more", "again")[: number % 3]]
        example = prepared(row, learner, loader, seed=1)
        count = int(example.targets["retrieved"])
        assert count == min(2, len(similar))
        empty, *alone = [words.ids_T.tolist() for words in example.others[together:]]
        assert len(empty) == 2
        told = [loader.tokenizer.words(text).ids_T.tolist() for text in similar]
        assert sorted(alone[:count]) == sorted(told)
        assert alone[count:] == [empty] * (2 - count)
        seen.add(count)
    assert seen == {0, 1, 2}


def test_each_text_is_drawn_alike_and_all_else_is_as_without(shards: Path, rows: Rows) -> None:
    learner, loader = contrasted(shards)
    row = next(row for row in rows.all() if len(row.similar()) == 2)
    drawn = Counter(cmcl.texts_like(row, 1, np.random.default_rng(seed))[0] for seed in range(2000))
    assert set(drawn) == set(row.similar())
    assert chisquare(list(drawn.values())).pvalue > 1e-3
    bare, whole = (prepared(row, learner, loader, seed=3, retrieved=number) for number in (0, 2))
    assert "retrieved" not in bare.targets
    for one, other in zip(bare.others, whole.others, strict=False):
        np.testing.assert_array_equal(one.ids_T, other.ids_T)
    assert len(whole.others) == len(bare.others) + 3


@pytest.mark.parametrize("product", ["cosine", "dot"])
def test_a_text_alone_and_an_image_alone_are_what_the_model_makes_of_each_by_itself(
    shards: Path, rows: Rows, product: str
) -> None:
    """One by one, as the steps text_alone and image_alone show them, without our batches of several."""
    learner, loader = contrasted(shards, product=product)
    learner.eval()
    tokenizer, chosen = loader.tokenizer, list(islice(rows.all(), 12))
    examples = [prepared(row, learner, loader, seed=2) for row in chosen]
    settings = settings_of(learner)
    found = cmcl.alone_scores(learner.model, collate(examples, tokenizer.pad), settings)
    for row, example, scores in zip(chosen, examples, found, strict=True):
        image = replace(example, words=tokenizer.words(""), others=(), targets={})
        assert isinstance(image.units, Regions)
        pictured = learner.model(collate([image], tokenizer.pad)).pooled_BH[0].detach().numpy()
        wanted = []
        for words in example.others[settings.together + 1 :][: int(example.targets["retrieved"])]:
            text = replace(without_regions(Examples.united([image])).split()[0], words=words)
            told = learner.model(collate([text], tokenizer.pad)).pooled_BH[0].detach().numpy()
            lengths = float(np.linalg.norm(pictured) * np.linalg.norm(told)) if product == "cosine" else 1.0
            wanted.append(float(pictured @ told) / lengths)
        assert len(wanted) == len(row.similar())
        wanted += [-math.inf] * (2 - len(wanted))
        np.testing.assert_allclose(scores.detach().numpy(), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 6])
def test_gradients_are_finite_and_reach_both_sides(shards: Path, batch_size: int) -> None:
    learner, loader = contrasted(shards, batch_size=batch_size)
    for batch in islice(loader, 6):
        assert {*batch.targets["retrieved"].tolist()} <= {0, 1, 2}
        learner.zero_grad()
        learner(batch).loss.backward()
        assert all(torch.isfinite(p.grad).all() for p in learner.parameters() if p.grad is not None)
    batch = next(batch for batch in loader if batch.targets["retrieved"].any())
    scores = cmcl.alone_scores(learner.model, batch, settings_of(learner))
    learner.zero_grad()
    scores[scores > -torch.inf].sum().backward()
    model: Any = learner.model
    assert model.regions.feature.weight.grad.any()
    assert model.bert.embeddings.word_embeddings.weight.grad.any()


def test_the_whole_losss_gradient_is_the_one_that_differences_give(shards: Path) -> None:
    learner, loader = contrasted(shards)
    learner, batch = doubled(learner, next(iter(loader)))
    weight = learner.get_parameter("model.bert.pooler.dense.weight")
    learner(batch).loss.backward()
    way = torch.from_numpy(np.random.default_rng(0).normal(size=tuple(weight.shape)))
    ends = []
    for step in (1e-6, -2e-6):
        with torch.no_grad():
            weight.add_(step * way)
            ends.append(float(learner(batch).loss))
    assert weight.grad is not None
    assert float((weight.grad * way).sum()) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5)


def test_shards_without_similar_captions_are_refused_unless_none_are_retrieved(tmp_path: Path, shards: Path) -> None:
    bare = write_folder(tmp_path / "bare", (6,), without=("similar",))
    old = Path(__file__).parents[1] / "pairloom/loader/versions/4"  # of before there were any
    for folder in (bare, old):
        with pytest.raises(ConfigError, match="the shards lack the columns similar") as caught, advised():
            opened("unimo", folder, objectives=RETRIEVED)
        assert "set shards.similar: true in params.yaml, run the stages similar and then shards" in str(caught.value)
        learner, loader = opened("unimo", folder)
        assert torch.isfinite(learner(next(iter(loader))).loss)
    assert "similar" in recipes.load("unimo").columns()
    assert "similar" not in recipes.load("unimo", "tiny").columns()


def test_bad_settings_are_named() -> None:
    with pytest.raises(ConfigError, match="retrieved is -1"):
        recipes.load("unimo", "tiny", {"objectives": {"cmcl": {"retrieved": -1}}})
    with pytest.raises(ConfigError, match=r"product"):
        recipes.load("unimo", "tiny", {"objectives": {"cmcl": {"product": "sum"}}})
    settings = cmcl.Settings(positives=0, mined=1, rewritten=0, temperature=1.0, retrieved=2)
    model: Any = ByHand({}, {}, {})
    with pytest.raises(ConfigError, match="models of pixels can't"):
        cmcl.head(settings, model, Shapes(10, image_size=224))

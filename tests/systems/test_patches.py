"""FashionBERT and Kaleido-BERT: their losses by hand and by torch, what they hide, and that both learn."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from pairloom.errors import ConfigError
from pairloom.loader.batch import HIDDEN, IGNORE, map_tensors
from pairloom.loader.rows import open_rows
from schemas.shards import SHARDS
from systems import recipes
from systems.objectives import aligned, placing, puzzles
from systems.objectives.patch_kl import divergences, feature_kl
from systems.units.regions import seven
from tests.building import negative, training_row, training_shard, write_table
from tests.pairloom.loader.loading import PATCHED, WIDTH, cells, picture, write_folder
from tests.systems.test_systems import bert, opened
from tests.training import train
from trainer import loop
from trainer.balance import adaptive
from trainer.contract import Shapes
from trainer.learner import Learner

BOTH = ("fashionbert", "kaleidobert")
ONE_STEP = {"itm": {"step": "pretrain"}}  # as at the published size
PUBLISHED = {  # BERT, and layers of features, types, places, norm
    "fashionbert": bert(30522, 768, 12) + 2048 * 768 + 2 * 768 + 64 * 768 + 2 * 768,
    "kaleidobert": bert(30522, 768, 12) + 5 * 2048 * 768 + 6 * 768 + 5 * 768 + 5 * 2 * 768,
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("shards"), (9, 8), patched=True)


@pytest.mark.parametrize("name", BOTH)
def test_the_published_shape_has_the_published_number_of_parameters(name: str) -> None:
    recipe = recipes.load(name)
    with torch.device("meta"):
        learner = Learner(recipe, Shapes(recipe.text.vocab_size, feature_width=2048))
    assert sum(parameter.numel() for parameter in learner.model.parameters()) == PUBLISHED[name]


def test_adaptive_weights_by_hand() -> None:
    torch.testing.assert_close(adaptive(torch.tensor([-0.4])), torch.ones(1))
    torch.testing.assert_close(adaptive(torch.full((3,), 0.7)), torch.full((3,), 1 / 3))
    e = np.exp([1.0, 0.0])
    g = (e / e.sum()) ** 2
    w = 1 / (2 - g)
    torch.testing.assert_close(adaptive(torch.tensor([1.0, 0.0])), torch.tensor(w / w.sum(), dtype=torch.float32))
    # one loss far above: g = (1, 0, 0), so 1/2, 1/3, 1/3 of their sum 7/6
    torch.testing.assert_close(adaptive(torch.tensor([50.0, 0.0, 0.0])), torch.tensor([3 / 7, 2 / 7, 2 / 7]))


@given(losses=st.lists(st.floats(0, 100), min_size=3, max_size=3))
def test_a_larger_loss_never_weighs_less_and_weights_stay_in_their_bounds(losses: list[float]) -> None:
    weights = adaptive(torch.tensor(losses, dtype=torch.float64))
    assert float(weights.sum()) == pytest.approx(1)
    assert (weights >= 2 / 7 - 1e-9).all()
    assert (weights <= 3 / 7 + 1e-9).all()
    for one in range(3):
        for other in range(3):
            assert losses[one] < losses[other] or weights[one] >= weights[other] - 1e-12


@pytest.mark.parametrize("balance", ["fixed", "adaptive"])
def test_the_losses_of_a_step_are_added_as_the_recipe_says(balance: str, shards: Path) -> None:
    learner, loader = opened("fashionbert", shards, training={"balance": balance}, objectives=ONE_STEP)
    found = learner(next(iter(loader)))
    losses = torch.stack([part.loss for part in found.parts.values()])
    weights = torch.ones(3) if balance == "fixed" else adaptive(losses)
    torch.testing.assert_close(found.loss, (weights * losses).sum())
    assert list(found.parts) == ["itm", "mlm", "patch_kl"]


def test_feature_kl_by_hand_and_by_torch() -> None:
    target, predicted = torch.tensor([[0.0, np.log(3.0)]]), torch.tensor([[0.0, 0.0]])
    by_hand = 0.25 * np.log(0.25 / 0.5) + 0.75 * np.log(0.75 / 0.5)
    assert float(feature_kl(predicted, target)) == pytest.approx(by_hand)
    one, two = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    theirs = F.kl_div(one.log_softmax(1), two.log_softmax(1), reduction="none", log_target=True).sum(1)
    torch.testing.assert_close(feature_kl(one, two), theirs)
    torch.testing.assert_close(divergences(one, two).diagonal(), theirs)
    torch.testing.assert_close(divergences(one, two)[0, 2], feature_kl(one[:1], two[2:])[0])
    assert gradcheck(lambda x: feature_kl(x, two), one.requires_grad_())
    assert gradcheck(adaptive, torch.rand(3, dtype=torch.float64).requires_grad_())


@given(
    wishes=st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=12), first=st.integers(0, 11),
    count=st.integers(1, 12), seed=st.integers(0, 9),
)  # fmt: skip
def test_drawn_crops_differ_and_none_is_drawn_before_one_that_is_wanted_more(
    wishes: list[int], first: int, count: int, seed: int
) -> None:
    first = min(first, len(wishes) - 1)
    count = min(count, len(wishes) - first)
    part = wishes[first:]
    drawn = placing.preferred(np.array(wishes), first, len(wishes), count, np.random.default_rng(seed)).tolist()
    assert len(set(drawn)) == count
    left = [wish for place, wish in enumerate(part) if place not in drawn]
    assert not left or max(left) <= min(part[place] for place in drawn)


def test_without_wishes_every_crop_is_drawn_equally_often() -> None:
    from scipy.stats import chisquare

    rng, counts = np.random.default_rng(0), np.zeros(64)
    for _ in range(4000):
        counts[placing.preferred(None, 0, 64, 5, rng)] += 1
    assert counts.sum() == 20_000
    assert chisquare(counts).pvalue > 1e-3


def test_five_patches_are_zero_and_their_features_are_the_targets(shards: Path) -> None:
    learner, loader = opened("fashionbert", shards, objectives=ONE_STEP)
    batch = next(iter(loader))
    regions, places = batch.regions, batch.targets["blank_places"]
    assert regions is not None
    assert regions.shown_BR is not None
    assert (places.diff(dim=1) > 0).all()
    assert places.shape == (6, 5)
    assert ((regions.shown_BR == HIDDEN).sum(dim=1) == 5).all()
    wanted = regions.features_BRD.gather(1, places[..., None].expand(-1, -1, WIDTH))
    assert (batch.targets["blank_features"] == wanted).all()
    noise = 5.0 * (regions.shown_BR == HIDDEN)[..., None]
    other = replace(batch, regions=replace(regions, features_BRD=regions.features_BRD + noise))
    learner.eval()
    torch.testing.assert_close(learner.model(batch).units_BUH, learner.model(other).units_BUH)


@pytest.mark.parametrize("name", BOTH)
def test_padding_changes_nothing_and_one_row_is_finite(name: str, shards: Path) -> None:
    learner, loader = opened(name, shards)
    batch = next(iter(loader))
    one = batch.take(torch.tensor([0]))
    losses = learner(one)
    losses.loss.backward()
    assert torch.isfinite(losses.loss)
    assert all(torch.isfinite(p.grad).all() for p in learner.parameters() if p.grad is not None)
    words = int(batch.words.attention_mask_BT[0].sum())
    cut = replace(one, words=map_tensors(one.words, lambda tensor: tensor[:, :words]))
    learner.eval()
    torch.testing.assert_close(learner.model(cut).units_BUH[0], learner.model(batch).units_BUH[0], atol=2e-5, rtol=1e-4)


def test_each_puzzle_shows_what_its_answer_says_and_nothing_else_is_changed(shards: Path) -> None:
    _, loader = opened("kaleidobert", shards, objectives=ONE_STEP)
    plain = {row.image_id: row for row in loader_rows(shards)}
    turns, orders, places = set(), set(), set()
    for batch in islice(iter(loader), 12):
        assert batch.regions is not None
        for row, image in enumerate(batch.image_ids):
            found = batch.regions.features_BRD[row].numpy()
            own = plain[image]
            clean, turned, grey = (own.numbers(f"pyramid_{name}") for name in ("features", "turned", "grey"))
            target = {name: values[row].numpy() for name, values in batch.targets.items()}
            turn = int(target["rotation"])
            assert (found[0] == (clean[0] if turn == 0 else turned[turn - 1])).all()
            order = puzzles.ORDERS[int(target["jigsaw"])]
            assert (found[1:5] == clean[1:5][list(order)]).all()
            assert np.flatnonzero((found[5:14] != clean[5:14]).any(axis=1)).tolist() == [target["camouflage"]]
            assert [p for p in range(16) if (found[14 + p] != clean[14 + p]).any()] == (
                target["grey_places"] - 14
            ).tolist()
            assert (found[target["grey_places"]] == grey[target["grey_places"] - 14]).all()
            assert (target["grey_features"] == clean[target["grey_places"]]).all()
            assert (found[30:] == clean[30:]).all()
            assert batch.regions.shown_BR is not None
            assert np.flatnonzero(batch.regions.shown_BR[row] == HIDDEN).tolist() == target["blank_places"].tolist()
            assert (target["blank_features"] == clean[target["blank_places"]]).all()
            turns.add(turn)
            orders.add(order)
            places.add(int(target["camouflage"]))
    assert turns == set(range(4))
    assert len(orders) > 15
    assert len(places) > 6


def test_batches_that_are_made_again_are_the_same_since_the_shard_in_memory_stays_as_it_was(shards: Path) -> None:
    _, loader = opened("kaleidobert", shards)
    first = list(islice(iter(loader), 3))
    loader.load_state_dict(loader.state_dict() | {"step": 0})
    for one, again in zip(first, loader, strict=False):
        assert one.regions is not None
        assert again.regions is not None
        assert torch.equal(one.regions.features_BRD, again.regions.features_BRD)
    (row, *_) = loader.prepare.stream.parts[0].all()
    assert not row.numbers("pyramid_features").flags.writeable


def test_the_puzzles_losses_are_torchs_and_rows_without_an_answer_do_not_count(shards: Path) -> None:
    learner, loader = opened("kaleidobert", shards)
    batch = next(iter(loader))
    batch = replace(
        batch,
        targets={**batch.targets, "camouflage": batch.targets["camouflage"].index_fill(0, torch.tensor([0]), IGNORE)},
    )
    learner.eval()
    encoded, found = learner.model(batch), learner(batch)
    for name, first, count in (("rotation", 0, 1), ("jigsaw", 1, 4), ("camouflage", 5, 9)):
        head: Any = learner.heads[name]
        wide = torch.cat([encoded.units_BUH[:, first + crop] for crop in range(count)], dim=1)
        theirs = F.cross_entropy(head(wide), batch.targets[name], ignore_index=IGNORE)
        torch.testing.assert_close(found.parts[name].loss, theirs)
    assert int(found.parts["camouflage"].count) == 5
    nobody = replace(batch, targets={**batch.targets, "camouflage": torch.full((6,), IGNORE)})
    assert learner(nobody).parts["camouflage"].loss == 0
    torch.testing.assert_close(found.loss, sum(part.loss for part in found.parts.values()))


def test_levels_have_layers_of_their_own_and_the_place_is_read_in_the_papers_order(shards: Path) -> None:
    learner, loader = opened("kaleidobert", shards)
    batch = next(iter(loader))
    embedding: Any = learner.model.patches.eval()
    assert batch.regions is not None
    crop, level = 20, 4  # of the fourth level
    with torch.no_grad():
        embedding.norms[level - 1].weight.fill_(2.0)
    found, crops = embedding(batch.regions), batch.regions
    box = crops.boxes_BR7[2, crop]
    x1, y1, x2, y2 = box[:4]
    place = torch.stack([x1, x2, y1, y2, (x2 - x1) * (y2 - y1)])
    summed = embedding.features[level - 1].weight @ crops.features_BRD[2, crop].float() + embedding.types.weight[level]
    summed = summed + embedding.place.weight @ place
    wanted = 2 * F.layer_norm(summed, summed.shape, eps=1e-12)
    torch.testing.assert_close(found[2, crop], wanted, rtol=1e-4, atol=1e-4)


LEVELS = ((5, 9, 1), (14, 16, 2), (30, 25, 3))


@given(pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=8), seed=st.integers(0, 99))
def test_of_a_chosen_pair_word_and_crop_are_never_both_hidden(pairs: list[tuple[int, int]], seed: int) -> None:
    boxes = seven(np.array([cell for side in range(1, 6) for cell in cells(side)]), 64, 48)
    regions = seven(np.array([[0, 0, 20, 20], [5, 5, 25, 25], [40, 30, 64, 48], [0, 0, 64, 48]]), 64, 48)
    settings = aligned.Settings(probability=0.15, levels=LEVELS)
    crops = aligned.closest(boxes[None], regions, settings).tolist()
    named = [(word, crops[region]) for word, region in dict.fromkeys(pairs)]
    wishes, words = aligned.toss(named, len(boxes), settings, np.random.default_rng(seed))
    hidden_crops = set()
    for first, count, number in LEVELS:
        wanted = np.flatnonzero(wishes[first : first + count] == placing.DRAWN)
        assert len(wanted) <= number
        drawn = placing.preferred(wishes, first, first + count, number, np.random.default_rng(seed))
        assert set(wanted) <= set(drawn.tolist())  # so a crop that is wished for is hidden, one that is spared is not
        assert (wishes[first + drawn] != placing.SPARED).all()
        hidden_crops |= {first + int(place) for place in drawn}
    assert (wishes[:5] == 0).all()
    tokens = aligned.hidden(list(range(-1, 5)), words, 1.0, np.random.default_rng(seed))
    assert not any(tokens[1 + word] for word, wish in words.items() if wish == placing.SPARED)
    assert bool(pairs) == bool(words)


def test_a_crop_pairs_with_the_word_whose_region_it_overlaps_most_by_hand() -> None:
    boxes = seven(np.array([cell for side in range(1, 6) for cell in cells(side)]), 64, 48)
    region = seven(np.array([[33.0, 1, 63, 20]]), 64, 48)[0]  # of 2 by 2, the upper right one
    assert aligned.shared(boxes[1:5], region).argmax() == 1
    torch.testing.assert_close(
        torch.tensor(aligned.shared(boxes[:1], region)), torch.tensor([30 * 19 / (64 * 48)], dtype=torch.float32)
    )
    one, sides = aligned.Settings(probability=0.15, levels=((1, 4, 1),)), set()
    assert aligned.closest(boxes[None], region[None], one).tolist() == [[2]]
    for seed in range(40):
        wishes, words = aligned.toss([(7, [2])], len(boxes), one, np.random.default_rng(seed))
        assert np.flatnonzero(wishes).tolist() == [2]
        assert words == {7: -wishes[2]}
        sides.add(int(wishes[2]))
    assert sides == {placing.DRAWN, placing.SPARED}


def test_a_tags_word_is_found_in_the_text_and_hidden_far_more_often_than_another(lessons: Path) -> None:
    settings = {"text": {"vocab_size": 300}, "objectives": ONE_STEP}
    _, loader = opened("kaleidobert", lessons, batch_size=32, **settings)
    tokenizer = loader.tokenizer
    names = {thing: tokenizer.words(thing).ids_T[1:-1].tolist() for thing in THINGS}
    hidden = rows = 0
    for batch in islice(iter(loader), 12):
        for row, image in enumerate(batch.image_ids):
            if not batch.match_B[row]:
                continue
            rows += 1
            labels = batch.words.labels_BT[row]
            named = names[THINGS[int.from_bytes(image, "big") % 8]]
            hidden += labels[labels != IGNORE].tolist()[-len(named) :] == named
    # one of five words would be hidden in about 0.2 of the rows. A coin hides the named one in half
    assert 0.35 < hidden / rows < 0.65


def loader_rows(shards: Path) -> Any:
    recipe = recipes.load("kaleidobert", "tiny")
    return open_rows(shards, "train", recipe.columns(), ("en",)).all()


def test_another_number_of_crops_is_refused(shards: Path) -> None:
    with pytest.raises(ConfigError, match="wants 16 crops an image, the shards have 64"):
        opened("fashionbert", shards, units={"patches": {"count": 16}})


THINGS = ("dog", "cup", "bus", "tree", "guitar", "apple", "boat", "clock")


@pytest.fixture(scope="module")
def lessons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 train and 32 val images of eight kinds. The features of all crops are the kind's, its caption names it."""
    notes = {**PATCHED, "feature_width": str(WIDTH), "prob_width": "0", "classes": json.dumps(THINGS)}
    made = {
        f"{split}-00000": training_shard([lesson(n) for n in numbers], split, {**notes, "attributes": '["none"]'})
        for split, numbers in (("train", range(96)), ("val", range(96, 128)))
    }
    return write_table(tmp_path_factory.mktemp("lessons"), SHARDS, made)


def lesson(number: int) -> dict[str, Any]:
    kind, rng = number % len(THINGS), np.random.default_rng(number)
    text = f"a photo of a {THINGS[kind]}"
    own = 3.0 * np.eye(WIDTH)[kind]

    def crops(count: int, shift: int = 0) -> Any:
        place = np.sin(np.arange(count)[:, None] + np.arange(WIDTH))  # crops of one image differ by where they lie
        return np.roll(own, shift) + place + 0.1 * rng.normal(size=(count, WIDTH))

    turned = np.concatenate([crops(1, 1 + turn) for turn in range(3)])
    pieces = [cell for side in range(1, 6) for cell in cells(side)]
    tag = {
        "text": THINGS[kind],
        "region": 0,
        "class_id": kind,
        "attribute_id": None,
        "score": 0.9,
        "count": 1,
        "start": 0,
    }
    return training_row(
        number, [text], np.array([[16, 12, 48, 36]]), own[None],
        image=picture(0), class_ids=[kind], class_scores=[0.9], prob_ids=np.zeros(0), prob_values=np.zeros(0),
        tags=[tag], negatives=[[negative(f"a photo of a {THINGS[(kind + 1) % 8]}")]], short=[29],
        patch_boxes=np.array(cells(8)), patch_features=crops(64), pyramid_boxes=np.array(pieces),
        pyramid_features=crops(55), pyramid_turned=turned, pyramid_grey=0.3 * crops(16),
    )  # fmt: skip


LEARNED = {
    "fashionbert": {"mlm", "patch_kl", "itm"},
    "kaleidobert": {"aligned", "rotation", "jigsaw", "camouflage", "grey", "blank", "itm"},
}


@pytest.mark.parametrize("name", BOTH)
def test_every_loss_falls_on_rows_that_were_not_trained_on(name: str, lessons: Path) -> None:
    result = train(name, lessons, loop.Config(steps=60, batch_size=32, lr=2e-3, threads=1))
    figures = result.metrics["objectives"]
    assert set(figures) == set(result.learner.recipe.objectives)
    for objective in LEARNED[name]:
        assert figures[objective]["held_out_loss"] < 0.9 * figures[objective]["untrained_loss"], objective

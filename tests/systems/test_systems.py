"""The systems against what isn't ours: published sizes, transformers' own losses and weights, finite differences."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from pairloom.errors import ConfigError
from pairloom.loader import Loader
from pairloom.loader import tokenizer as tokenizers
from pairloom.loader.batch import HIDDEN, IGNORE, Batch, Words, map_tensors
from pairloom.loader.pair import Pair
from systems import recipes
from systems.objectives.alignment import alignment_distance
from systems.objectives.cmcl import contrast, rewritten
from systems.objectives.itm import image_text_matching
from systems.objectives.mrc import region_kl
from systems.objectives.mrfr import feature_error
from systems.objectives.seq2seq import taken_apart
from tests.pairloom.loader.loading import WORDS, write_folder
from trainer import adversarial, checkpoint
from trainer.contract import Nudges, Scored, Shapes
from trainer.learner import Learner, shapes_of
from trainer.recipe import Adversarial

HERE = Path(__file__).resolve().parents[2]
REGION_RECIPES = ("uniter", "vilbert", "lxmert", "interbert", "oscar", "vinvl", "villa", "unimo")
VG: dict[str, Any] = {"feature_width": 2048, "num_classes": 1600, "num_attributes": 400, "answers": ("yes",) * 9500}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("shards"), (9, 8))


def opened(name: str, shards: Path, batch_size: int = 6, **sections: Any) -> tuple[Learner, Loader[Batch]]:
    torch.manual_seed(0)
    recipe = recipes.load(name, "tiny", {"text": {"vocab_size": 300, "max_tokens": 16}, **sections})
    tokenizer = tokenizers.train([" ".join(WORDS)], recipe.text)
    loader = Loader(shards, recipe, tokenizer, batch_size=batch_size)
    return Learner(recipe, shapes_of(recipe, tokenizer, loader.metadata())), loader


def linear(given: int, wanted: int) -> int:
    return given * wanted + wanted


def layer(hidden: int, feed_forward: int) -> int:
    """A transformer's layer as BERT counts it: attention, feed-forward, two norms."""
    return 4 * linear(hidden, hidden) + linear(hidden, feed_forward) + linear(feed_forward, hidden) + 4 * hidden


def embeddings(vocabulary: int, hidden: int, positions: int = 512) -> int:
    return (vocabulary + positions + 2 + 2) * hidden  # words, positions, two types, norm


def region(box: int, hidden: int, norms: int) -> int:
    return linear(2048, hidden) + linear(box, hidden) + norms * 2 * hidden


def bert(vocabulary: int, hidden: int, layers: int, positions: int = 512) -> int:
    return embeddings(vocabulary, hidden, positions) + layers * layer(hidden, 4 * hidden) + linear(hidden, hidden)


def co_attention(asks: int, answers: int, joint: int, feed_forward: int) -> int:
    attention = linear(asks, joint) + 2 * linear(answers, joint) + linear(joint, asks)
    return attention + linear(asks, feed_forward) + linear(feed_forward, asks) + 4 * asks


PUBLISHED = {  # of the model, without heads. UNITER's also has the 2,048 numbers that stand for a hidden feature
    ("uniter", "base"): bert(28996, 768, 12) + region(7, 768, 3) + 2048,
    ("villa", "base"): bert(28996, 768, 12) + region(7, 768, 3) + 2048,
    ("oscar", "base"): bert(30522, 768, 12) + region(6, 768, 0),
    ("oscar", "large"): bert(30522, 1024, 24) + region(6, 1024, 0),
    ("vinvl", "base"): bert(30522, 768, 12) + region(6, 768, 1),
    ("unimo", "base"): bert(50265, 768, 12, 514) + region(5, 768, 1),
    ("vilbert", "base"): embeddings(30522, 768) + region(5, 1024, 1) + 12 * layer(768, 3072) + 6 * layer(1024, 1024)
    + 6 * (co_attention(768, 1024, 1024, 3072) + co_attention(1024, 768, 1024, 1024))
    + linear(768, 1024) + linear(1024, 1024),
    ("interbert", "base"): embeddings(30522, 768) + region(5, 768, 1) + 18 * layer(768, 3072) + 2 * linear(768, 768),
    # language 9, relations 5, and 5 cross layers: one shared co-attention, then a layer each
    ("lxmert", "base"): embeddings(30522, 768) + linear(2048, 768) + linear(4, 768) + 4 * 768 + 14 * layer(768, 3072)
    + 5 * (2 * layer(768, 3072) + 4 * linear(768, 768) + 2 * 768) + linear(768, 768),
}  # fmt: skip


@pytest.mark.parametrize(("name", "size"), PUBLISHED)
def test_the_published_shape_has_the_published_number_of_parameters(name: str, size: str) -> None:
    recipe = recipes.load(name, size)
    with torch.device("meta"):
        learner = Learner(recipe, Shapes(recipe.text.vocab_size, **VG))
    counted = [p for p in learner.model.parameters() if p.requires_grad]
    assert sum(parameter.numel() for parameter in counted) == PUBLISHED[name, size]


@pytest.mark.parametrize("name", REGION_RECIPES)
def test_one_row_and_one_region_are_finite_in_every_step(name: str, shards: Path) -> None:
    units = {"regions": {"max_regions": 1, "min_regions": 1}}
    learner, loader = opened(name, shards, batch_size=1, units=units)
    batches = iter(loader)
    for kind in learner.kinds:
        batch = next(batch for batch in batches if batch.objective == kind)
        losses = learner(batch)
        losses.loss.backward()
        assert torch.isfinite(losses.loss)
        assert all(torch.isfinite(p.grad).all() for p in learner.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", REGION_RECIPES)
def test_padding_changes_nothing(name: str, shards: Path) -> None:
    learner, loader = opened(name, shards)
    batch = next(iter(loader))
    learner.eval()
    alone = learner.model(batch.take(torch.tensor([0])))
    words, units = int(batch.words.attention_mask_BT[0].sum()), int(batch.regions.mask_BR[0].sum())  # type: ignore[union-attr]
    together = learner.model(batch)
    torch.testing.assert_close(alone.words_BTH[0, :words], together.words_BTH[0, :words], atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(alone.units_BUH[0, :units], together.units_BUH[0, :units], atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(alone.pooled_BH[0], together.pooled_BH[0], atol=2e-5, rtol=1e-4)


def hides(batch: Batch) -> bool:
    shown = None if batch.regions is None else batch.regions.shown_BR
    return shown is not None and bool((shown == HIDDEN).any())


@pytest.mark.parametrize("name", sorted({*REGION_RECIPES} - {"oscar", "vinvl"}))  # these hide no region
def test_a_hidden_feature_is_not_seen(name: str, shards: Path) -> None:
    learner, loader = opened(name, shards)
    batch = next(batch for batch in loader if hides(batch))
    assert batch.regions is not None
    assert batch.regions.shown_BR is not None
    learner.eval()
    shown_BR, mask_BR = batch.regions.shown_BR, batch.regions.mask_BR
    elsewhere_N = torch.zeros(
        int(mask_BR.sum()), dtype=torch.bool
    )  # a hidden feature that stands in for another's is seen
    elsewhere_N[shown_BR[shown_BR > HIDDEN] % len(elsewhere_N)] = True
    nowhere_BR = (shown_BR == HIDDEN).masked_scatter(mask_BR, (shown_BR == HIDDEN)[mask_BR] & ~elsewhere_N)
    assert nowhere_BR.any()
    noise = 5.0 * nowhere_BR[..., None]
    other = replace(batch, regions=replace(batch.regions, features_BRD=batch.regions.features_BRD + noise))
    seen, alike = learner.model(batch), learner.model(other)
    torch.testing.assert_close(seen.units_BUH, alike.units_BUH)
    torch.testing.assert_close(seen.words_BTH, alike.words_BTH)


def test_lxmerts_losses_are_transformers_own(shards: Path) -> None:
    """The same weights and inputs through LxmertForPreTraining, whose loss has all but our draws."""
    from transformers import LxmertConfig, LxmertForPreTraining

    base = recipes.load("lxmert").source["objectives"]
    weights: dict[str, Any] = {name: {"weight": base[name]["weight"]} for name in ("mrfr", "mrc", "attributes")}
    weights |= {"itm": {"step": "pretrain", "alignment": 0.0}, "mlm": {"weight": 1}}  # as at its published size
    # a fixed number of regions: transformers' means run over padding too
    units = {"regions": {"max_regions": 1, "min_regions": 1}}
    learner, loader = opened("lxmert", shards, objectives=weights, units=units)
    settings: Any = learner.recipe.model.settings
    theirs = LxmertForPreTraining(
        LxmertConfig(
            vocab_size=learner.shapes.vocab_size, hidden_size=settings.hidden, num_attention_heads=settings.heads,
            intermediate_size=settings.feed_forward, l_layers=1, r_layers=1, x_layers=2, visual_feat_dim=8,
            max_position_embeddings=settings.max_tokens, num_object_labels=len(WORDS), num_attr_labels=1,
            num_qa_labels=len(learner.shapes.answers),
        )
    ).eval()  # fmt: skip
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    placed = learner.load_published(theirs.state_dict())
    assert (placed.missing, placed.left_over) == ((), ())
    learner.eval()
    batch = next(iter(loader))
    assert (batch.targets["answer_ids"] != IGNORE).any()
    assert (batch.targets["answer_ids"] == IGNORE).any()
    regions = batch.regions
    assert regions is not None
    assert regions.class_scores_BR is not None
    assert regions.attribute_scores_BR is not None
    from systems.layers import shown_features

    found = theirs(
        input_ids=batch.words.input_ids_BT, token_type_ids=batch.words.segments_BT,
        attention_mask=batch.words.attention_mask_BT.long(),
        visual_feats=shown_features(regions, torch.zeros(8)), visual_pos=regions.boxes_BR7[..., :4],
        labels=batch.words.labels_BT, matched_label=batch.match_B.long(), ans=batch.targets["answer_ids"],
        obj_labels={
            "obj": (regions.class_ids_BR, regions.class_scores_BR),
            "attr": (regions.attribute_ids_BR, regions.attribute_scores_BR),
            "feat": (regions.features_BRD.float(), regions.masked_BR.float()),
        },
    )  # fmt: skip
    torch.testing.assert_close(learner(batch).loss, found.loss, rtol=1e-4, atol=1e-4)


def test_another_recipes_checkpoint_starts_this_one(shards: Path, tmp_path: Path) -> None:
    learner, loader = opened("uniter", shards)
    figures: dict[str, Any] = {"objectives": {}, "steps": 0, "batch_size": 1, "seed": 0, "retrieval": None}
    checkpoint.save(tmp_path, learner, loader.tokenizer, figures | {"rows": {"train": 1, "val": 1}})
    started = Learner(recipes.load("villa", "tiny"), learner.shapes)
    checkpoint.take_over(started, tmp_path)
    for name, value in learner.state_dict().items():
        torch.testing.assert_close(started.state_dict()[name], value)


def doubled(learner: Learner, batch: Batch) -> tuple[Learner, Batch]:
    return learner.double().eval(), map_tensors(batch, lambda t: t.double() if t.is_floating_point() else t)


def test_a_perturbations_gradient_is_the_losss_by_finite_differences(shards: Path) -> None:
    learner, loader = opened("villa", shards, batch_size=3)
    learner, batch = doubled(learner, next(b for b in iter(loader) if b.objective == "mlm"))
    assert batch.regions is not None
    kind = learner.kinds["mlm"]
    words = torch.zeros(*batch.words.input_ids_BT.shape, 64, dtype=torch.float64, requires_grad=True)
    places = torch.zeros(batch.regions.features_BRD.shape, dtype=torch.float64, requires_grad=True)
    learner.losses(kind, batch, Nudges(words, places)).loss.backward()
    rng = np.random.default_rng(0)
    for nudge in (words, places):
        assert nudge.grad is not None
        way = torch.from_numpy(rng.normal(size=tuple(nudge.shape)))
        ends = []
        for sign in (1, -1):
            moved = sign * 1e-5 * way
            ends.append(
                learner.losses(kind, batch, Nudges(*(moved if one is nudge else None for one in (words, places))))
            )
        slope = (ends[0].loss - ends[1].loss) / 2e-5
        torch.testing.assert_close((nudge.grad * way).sum(), slope, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_step_up_is_as_long_as_lr_in_each_row_and_stays_in_the_ball(norm: Any) -> None:
    nudge = torch.zeros(2, 3, 4, requires_grad=True)
    nudge.grad = torch.randn(2, 3, 4)
    nudge.grad[1] = 0  # a row without a gradient stays
    order = 2 if norm == "l2" else torch.inf
    moved = adversarial.ascended(nudge, Adversarial(steps=3, lr=0.5, norm=norm))
    torch.testing.assert_close(moved.flatten(1).norm(order, dim=1), torch.tensor([0.5, 0.0]))
    short = adversarial.ascended(nudge, Adversarial(steps=3, lr=0.5, norm=norm, most=0.2))
    torch.testing.assert_close(short.flatten(1).norm(order, dim=1), torch.tensor([0.2, 0.0]))


def test_a_model_that_takes_no_perturbations_is_refused(shards: Path) -> None:
    with pytest.raises(ConfigError, match="two_stream takes no perturbations"):
        opened("vilbert", shards, training={"adversarial": {"steps": 2, "lr": 0.1}})


def test_the_perturbed_pass_costs_more_than_the_clean_one(shards: Path) -> None:
    learner, loader = opened("villa", shards)
    batch = next(b for b in iter(loader) if b.objective == "itm")
    learner.eval()
    kind = learner.kinds["itm"]
    nudge = torch.zeros(*batch.words.input_ids_BT.shape, 64, requires_grad=True)
    clean = learner.losses(kind, batch, Nudges(nudge, None)).loss
    clean.backward()
    moved = adversarial.ascended(nudge, Adversarial(steps=2, lr=1e-2))
    assert learner.losses(kind, batch, Nudges(moved, None)).loss > clean


def test_symmetric_kl_by_hand() -> None:
    p, q = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.25, 0.75]])
    by_hand = 0.5 * np.log(2) + 0.5 * np.log(2 / 3) + 0.25 * np.log(0.5) + 0.75 * np.log(1.5)
    assert float(adversarial.symmetric_kl([p.log()], [q.log()])) == pytest.approx(by_hand, rel=1e-5)


def test_fragments_are_written_from_what_is_left_and_from_what_was_written() -> None:
    words = Words(
        np.array([2, 10, 11, 12, 13, 3]), np.array([-1, 0, 1, 2, 3, -1]), np.full(6, IGNORE), np.zeros(6, int)
    )
    for seed in range(50):
        apart = taken_apart(words, 0.25, 2, 3, np.random.default_rng(seed))
        gone = [token for token in (10, 11, 12, 13) if token not in apart.ids_T[: apart.segments_T.argmax()]]
        assert len(gone) == 1  # a quarter of four
        left = [token for token in (10, 11, 12, 13) if token not in gone]
        assert apart.ids_T.tolist() == [2, *left, 3, *gone, 3]
        assert apart.segments_T.tolist() == [0] * 5 + [1, 1]
        assert apart.labels_T.tolist() == [IGNORE] * 4 + [*gone, 3, IGNORE]


def test_no_word_sees_what_it_is_to_predict(shards: Path) -> None:
    learner, loader = opened("unimo", shards)
    batch = next(batch for batch in loader if batch.objective == "seq2seq")
    assert batch.causal
    learner.eval()
    words, before = batch.words, learner.model(batch)
    for place in range(words.input_ids_BT.shape[1]):
        second = words.segments_BT[:, place] == 1
        ids = words.input_ids_BT.clone()
        ids[:, place] = torch.where(second, (ids[:, place] + 7) % learner.shapes.vocab_size, ids[:, place])
        after = learner.model(replace(batch, words=replace(words, input_ids_BT=ids)))
        torch.testing.assert_close(after.words_BTH[:, :place], before.words_BTH[:, :place])
        torch.testing.assert_close(after.units_BUH, before.units_BUH)


def test_a_model_that_sees_ahead_cannot_write(shards: Path) -> None:
    with pytest.raises(ConfigError, match="see what comes after"):
        opened("vilbert", shards, objectives={"seq2seq": {}})


def test_cmcl_by_hand_and_infonce_when_one_is_right() -> None:
    scores = torch.tensor([[1.0, 0.0, -1.0]])
    both = -math.log((math.e + 1) / (math.e + 1 + math.exp(-1)))
    assert float(contrast(scores, 2, 1.0)) == pytest.approx(both)
    one = torch.nn.functional.cross_entropy(scores / 0.5, torch.tensor([0]))
    torch.testing.assert_close(contrast(scores, 1, 0.5), one)


def test_a_rewritten_text_differs_in_one_name_of_the_same_kind() -> None:
    words = (("dog", "fire truck", "truck"), ("red", "blue"), ("left of", "above"))
    seen = {rewritten("A red fire truck left of two dogs", words, np.random.default_rng(i)) for i in range(200)}
    assert seen == {
        "A blue fire truck left of two dogs", "A red fire truck above two dogs", "A red dog left of two dogs",
        "A red truck left of two dogs", "A red fire truck left of two fire trucks",
        "A red fire truck left of two trucks",
    }  # fmt: skip
    assert rewritten("nothing here", words, np.random.default_rng(0)) is None


def test_polluted_tags_and_captions_come_at_the_published_shares(shards: Path) -> None:
    from systems.objectives import polluted

    class Row:
        def __init__(self, number: int) -> None:
            self.number, self.text = number, f"caption {number}"

        def tags(self) -> str:
            return f"tags {self.number}"

        def other(self, rng: np.random.Generator) -> Row:
            return Row(int(rng.integers(1, 50)))

    rng, counts, row = np.random.default_rng(0), np.zeros(3), Row(0)
    settings = polluted.Settings(second=0.25, first=0.25)
    for _ in range(20_000):
        found = polluted.pair(Pair(row, row, row.text, row.tags()), settings, rng)  # type: ignore[arg-type]
        counts[found.mismatch] += 1
        assert (found.second != row.tags()) == (found.mismatch == polluted.SECOND)
        assert (found.text != row.text) == (found.mismatch == polluted.FIRST)
    from scipy.stats import chisquare

    assert chisquare(counts, np.array([0.5, 0.25, 0.25]) * 20_000).pvalue > 1e-3


def test_the_documentations_new_system_is_one_file_and_trains(shards: Path, tmp_path: Path) -> None:
    text = (
        (HERE / "docs/reference/systems.md").read_text(encoding="utf-8").partition("```yaml\n")[2].partition("```")[0]
    )
    (tmp_path / "visualbert.yaml").write_text(text, encoding="utf-8")
    learner, loader = opened(str(tmp_path / "visualbert.yaml"), shards)
    batch = next(iter(loader))
    assert set(learner(batch).parts) == {"mlm", "itm"}
    assert batch.mismatch_B.any()
    assert not batch.regions.masked_BR.any()  # type: ignore[union-attr]


@pytest.mark.parametrize("seed", range(3))
def test_every_loss_has_the_gradient_that_differences_give(seed: int) -> None:
    torch.manual_seed(seed)

    def real(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    labels, target, match = (
        torch.tensor([2, 0, 3]),
        torch.randn(2, 3, 4, dtype=torch.float64),
        torch.tensor([True, False]),
    )
    ids, values = torch.tensor([[[0, 2], [1, 3]]]), torch.tensor([[[0.6, 0.2], [0.5, 0.1]]], dtype=torch.float64)
    seen = torch.ones(1, 3, dtype=torch.bool), torch.ones(1, 2, dtype=torch.bool)
    assert gradcheck(lambda x: Scored.of_classes(x, labels).loss, real(3, 4))
    assert gradcheck(lambda x: feature_error(x, target, "square"), real(2, 3, 4))
    assert gradcheck(lambda x: feature_error(x, target, "smooth_l1"), real(2, 3, 4))
    assert gradcheck(lambda x: region_kl(x, ids, values), real(1, 2, 4))
    assert gradcheck(lambda x: image_text_matching(x, match), real(2, 2))
    assert gradcheck(lambda x: contrast(x, 2, 0.7), real(2, 5))
    assert gradcheck(lambda x, y: adversarial.symmetric_kl([x], [y]), (real(3, 4), real(3, 4)))
    words, units = real(1, 3, 4), real(1, 2, 4)
    from systems.objectives import alignment

    fixed = alignment.transport_plan(torch.rand(1, 3, 2, dtype=torch.float64), *seen)
    with pytest.MonkeyPatch.context() as patch:  # the plan is held still, as it is in training
        patch.setattr(alignment, "transport_plan", lambda *given: fixed)
        assert gradcheck(lambda x, y: alignment_distance(x, y, *seen), (words, units))

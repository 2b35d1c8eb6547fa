"""Questions in training: which rows ask, what they are to answer, what is wrong with polluted ones, and the loss."""

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
from torch.autograd import gradcheck

from pairloom.errors import ConfigError
from pairloom.loader import Loader, questions
from pairloom.loader.batch import IGNORE, Example, Pixels
from pairloom.loader.make import Make
from pairloom.loader.pair import Pair
from pairloom.loader.row import Row
from pairloom.loader.rows import Rows, open_rows
from systems import recipes
from systems.objectives import itm, polluted, qa
from systems.objectives.qa import question_answering
from tests.pairloom.loader.loading import recipe, tokenizer, write_folder
from tests.systems.test_systems import opened
from trainer import checkpoint
from trainer.contract import Shapes
from trainer.learner import Learner


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("shards"), (9, 8), group_rows=9)


@pytest.fixture(scope="module")
def rows(shards: Path) -> Rows:
    return open_rows(shards, "train", ("image_id", "captions", "qa", "tags"), ())


def own(row: Row) -> Pair:
    return Pair(row, row, row.text, row.tags())


def with_questions(rows: Rows, least: int) -> Row:
    return next(row for row in rows.all() if len(questions.about(row)) >= least)


def test_the_loss_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3)], [5.0, -5.0], [0.0, 0.0]])
    ids, shares = torch.tensor([[1, 0], [IGNORE, IGNORE], [1, IGNORE]]), torch.tensor([[0.75, 0.25], [0, 0], [1.0, 0]])
    by_hand = (-0.75 * math.log(0.75) - 0.25 * math.log(0.25) + math.log(2)) / 2
    assert float(question_answering(logits, ids, shares)) == pytest.approx(by_hand)
    nobody = torch.full((3, 1), IGNORE)
    assert float(question_answering(logits, nobody, torch.zeros(3, 1))) == 0
    one = torch.tensor([[1], [IGNORE], [0]])
    theirs = torch.nn.functional.cross_entropy(logits, one[:, 0])  # IGNORE is torch's own
    torch.testing.assert_close(question_answering(logits, one, (one != IGNORE).float()), theirs)


def test_the_loss_has_the_gradient_that_differences_give() -> None:
    ids, shares = torch.tensor([[2, 0], [IGNORE, IGNORE]]), torch.tensor([[0.6, 0.4], [0, 0]], dtype=torch.float64)
    logits = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: question_answering(x, ids, shares), logits)


def test_rows_ask_at_the_recipes_share_and_each_question_alike(rows: Rows) -> None:
    row, rng, draws = with_questions(rows, 3), np.random.default_rng(0), 20_000
    asked = Counter(questions.ask(own(row), 0.345, rng).text for _ in range(draws))
    texts = [question.text for question in questions.about(row)]
    expected = [0.655, *[0.345 / 3] * 3]
    assert chisquare([asked[text] for text in (row.text, *texts)], np.array(expected) * draws).pvalue > 1e-3


def test_an_image_without_questions_tells_its_caption(rows: Rows) -> None:
    row = next(row for row in rows.all() if not questions.about(row))
    assert questions.ask(own(row), 1.0, np.random.default_rng(0)) == own(row)
    only = next(row for row in rows.all() if len(questions.about(row)) == 3)
    answered = {questions.ask(own(only), 1.0, np.random.default_rng(i), answered=True).text for i in range(50)}
    assert answered == {question.text for question in questions.about(only)[:2]}  # the third has no answer


def targets(row: Row, number: int, seed: int = 0, mismatch: int = 0, **settings: Any) -> list[tuple[int, float]]:
    """(answer, share) of what is to be predicted of the row's question of this number."""
    question = questions.about(row)[number]
    units = Pixels(np.zeros((3, 1, 1), np.float32))
    example = Example(row.image_id, 0, tokenizer().words(question.text), units, mismatch, question=question)
    make = Make(tokenizer(), recipe().units, augment=False)
    found = qa.prepare(example, row, make, qa.Settings(share=1, **settings), np.random.default_rng(seed)).targets
    return list(zip(found["answer_ids"].tolist(), found["answer_shares"].tolist(), strict=True))


def test_one_answer_is_drawn_by_score_or_all_have_their_shares(rows: Rows) -> None:
    row = with_questions(rows, 3)  # red 1.0, odd 0.6, no 0.3, of which odd is not told apart, then one without answers
    drawn = Counter(targets(row, 1, seed)[0] for seed in range(4000))
    assert set(drawn) == {(2, 1.0), (1, 1.0)}
    assert chisquare([drawn[2, 1.0], drawn[1, 1.0]], np.array([1 / 1.3, 0.3 / 1.3]) * 4000).pvalue > 1e-3
    assert dict(targets(row, 1, targets="soft")) == pytest.approx({2: 1 / 1.3, 1: 0.3 / 1.3})
    assert targets(row, 0) == [(0, 1.0)]
    assert targets(row, 2) == targets(row, 0, mismatch=1) == [(IGNORE, 0.0)]


def test_a_question_that_is_not_the_images_is_another_question(rows: Rows) -> None:
    """Were it a caption, a question would always match."""
    row, matching = with_questions(rows, 2), itm.Settings(negative_probability=1, replace="text", hard_share=0)
    asked = questions.ask(own(row), 1.0, np.random.default_rng(0))
    mine = {question.text for question in questions.about(row)}
    for seed in range(50):
        other = itm.pair(asked, matching, np.random.default_rng(seed))
        assert other.mismatch
        assert other.text.startswith("is ")
        assert other.text not in mine


def test_polluted_questions_and_answers_come_at_the_published_shares(rows: Rows) -> None:
    row, rng = with_questions(rows, 3), np.random.default_rng(0)
    settings = polluted.Settings(second=0.25, first=0.25, questions=1.0)
    counts, mine = np.zeros(3), {one.text: one.answers for one in questions.about(row)}
    for _ in range(8000):
        found = polluted.pair(own(row), settings, rng)
        counts[found.mismatch] += 1
        assert found.text.startswith("is ")  # a question, whatever is wrong
        assert (found.text not in mine) == (found.mismatch == polluted.FIRST)
        if found.mismatch == 0:
            assert found.second == mine[found.text][0][0]
        if found.mismatch == polluted.SECOND:
            assert found.second != mine[found.text][0][0]
            assert found.second in {"yes", "red"}  # the best of another's
    assert chisquare(counts, np.array([0.5, 0.25, 0.25]) * 8000).pvalue > 1e-3
    everything = replace(settings, answer="all")
    assert "red odd no" in {polluted.pair(own(row), everything, rng).second for _ in range(50)}


def test_without_questions_polluted_reads_none() -> None:
    assert polluted.columns(polluted.Settings(second=0.5)) == ("tags",)
    assert "qa" not in recipes.load("oscar").columns()
    for name in ("lxmert", "vinvl"):
        assert "qa" in recipes.load(name).columns()
    bare = recipes.load("vinvl", "tiny", {"objectives": {"polluted": {"questions": 0}}})
    assert "qa" not in bare.columns()
    captions_alone = recipes.load("lxmert", "tiny", {"only": ["itm", "mlm", "mrfr", "mrc", "attributes"]})
    assert "qa" not in captions_alone.columns()
    with pytest.raises(ConfigError, match="questions is 2"):
        recipes.load("vinvl", "tiny", {"objectives": {"polluted": {"questions": 2}}})


def test_answers_count_from_the_share_of_the_training_on_that_the_recipe_says(shards: Path) -> None:
    learner, loader = opened("lxmert", shards, objectives={"itm": {"step": "pretrain"}})
    batch = next(iter(loader))
    learner.eval()
    early, late = (learner(replace(batch, progress=share)) for share in (0.49, 0.5))
    torch.testing.assert_close(late.loss - early.loss, late.parts["qa"].loss)
    early.loss.backward()
    assert not any(parameter.grad.any() for parameter in learner.heads["qa"].parameters() if parameter.grad is not None)
    with pytest.raises(ConfigError, match="start is 1"):
        recipes.load("lxmert", "tiny", {"objectives": {"qa": {"start": 1}}})


def test_the_tokenizer_has_seen_questions_and_answers(rows: Rows, shards: Path) -> None:
    texts = list(rows.texts())
    assert {"odd", "yes"} <= set(texts)
    assert any(text.endswith("there?") for text in texts)
    captions = list(open_rows(shards, "train", ("image_id", "captions"), ()).texts())
    assert not any(text.endswith("there?") for text in captions)


@pytest.mark.parametrize("name", ["lxmert", "vinvl"])
def test_questions_and_captions_share_a_batch(name: str, shards: Path) -> None:
    loader = Loader(shards, recipes.load(name, "tiny", {"text": {"vocab_size": 300}}), batch_size=16)
    texts = [
        loader.tokenizer.backend.decode(ids.tolist())
        for batch in islice(iter(loader), 4)
        for ids in batch.words.input_ids_BT
    ]
    asking = sum("there" in text for text in texts)
    assert 4 <= asking <= 40  # a fifth to a quarter of 64: three images of four have a question


def test_a_head_of_other_answers_is_not_taken_over(shards: Path, tmp_path: Path) -> None:
    learner, loader = opened("lxmert", shards)
    figures: dict[str, Any] = {"objectives": {}, "steps": 0, "batch_size": 1, "seed": 0, "retrieval": None}
    checkpoint.save(tmp_path, learner, loader.tokenizer, figures | {"rows": {"train": 1, "val": 1}})
    last = "heads.qa.3.weight"
    for answers, taken in ((learner.shapes.answers, True), (("a", "b", "c"), False)):
        other = Learner(learner.recipe, replace(learner.shapes, answers=answers))
        checkpoint.take_over(other, tmp_path)
        assert torch.equal(other.state_dict()[last], learner.state_dict()[last]) == taken
        assert torch.equal(other.state_dict()["heads.itm.weight"], learner.state_dict()["heads.itm.weight"])


def test_shards_that_name_no_answers_are_refused(shards: Path) -> None:
    learner, _ = opened("lxmert", shards)
    with pytest.raises(ConfigError, match="name no answers"):
        qa.head(qa.Settings(share=0.5), learner.model, Shapes(10))
    with pytest.raises(ConfigError, match="share is 0"):
        qa.Settings(share=0)

"""Tests of matching against scores that are worked out pair by pair, from the command line to the figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from evaluation import matching, scoring, shortlist
from evaluation.gallery import Gallery, open_gallery, texts_alone
from pairloom.metrics import retrieval as recall
from pipeline.cli import main
from systems import checkpoints as saved
from tests.evaluation.scenes import COLOURS, THINGS, name, scene
from trainer.learner import Learner

TEST = range(240, 264)  # scenes of the test split of the fixture `shards`


def opened(folder: Path, shards: Path, split: str = "test", **settings: Any) -> tuple[Learner, Gallery]:
    learner, tokenizer = saved.load(folder)
    gallery = open_gallery(shards, split, learner.recipe, tokenizer, beside=("url", "extra"), **settings)
    return learner, gallery


@torch.no_grad()
def pair_by_pair(learner: Learner, gallery: Gallery, images: list[int], texts: list[str]) -> Tensor:
    """(I, N) from one image and one text at a time."""
    blocks = [texts_alone(gallery.make.tokenizer, [text]) for text in texts]
    rows = [[learner.similarity(gallery.batch([image]), text).item() for text in blocks] for image in images]
    return torch.tensor(rows)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["evaluate", *words, "--quiet", "--json", "--device", "cpu"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("system", ["uniter", "oscar", "clip"])
def test_retrieval_is_that_of_scores_pair_by_pair(
    system: str, checkpoints: dict[str, Path], shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learner, gallery = opened(checkpoints[system], shards, most=7)
    texts = [text for own in gallery.captions for text in own]
    owner = torch.arange(7).repeat_interleave(2)
    wanted = recall.both_ways(pair_by_pair(learner, gallery, list(range(7)), texts), owner)
    arguments = ["--task", "retrieval", "--shards", str(shards), "--max-images", "7"]
    found = run(capsys, str(checkpoints[system]), *arguments)
    assert (found["images"], found["captions"], found["folds"]) == (7, 14, None)
    for way, figures in wanted.items():
        assert found["whole"][way] == pytest.approx(figures)


@pytest.mark.parametrize("system", ["uniter", "clip"])
def test_blocks_and_a_file_of_scores_change_nothing(
    system: str, checkpoints: dict[str, Path], shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, gallery = opened(checkpoints[system], shards)
    images, texts = range(len(gallery)), [text for own in gallery.captions for text in own]
    whole = scoring.scores(learner, gallery, images, texts)
    for constant, value in (("IMAGES", 5), ("TEXTS", 7), ("IN_MEMORY", 0)):
        monkeypatch.setattr(scoring, constant, value)
    in_file = scoring.scores(learner, gallery, images, texts)
    torch.testing.assert_close(in_file, whole, atol=2e-5, rtol=1e-4)


def test_of_an_image_so_many_captions_are_taken_as_are_asked_for(
    checkpoints: dict[str, Path], shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--task", "retrieval", "--shards", str(shards), "--captions-each", "1"]
    assert run(capsys, str(checkpoints["clip"]), *arguments)["captions"] == len(TEST)


def test_folds_alone_are_the_folds_of_the_whole(checkpoints: dict[str, Path], shards: Path) -> None:
    learner, gallery = opened(checkpoints["clip"], shards)
    whole = matching.retrieval(learner, gallery, fold=8)
    alone = matching.retrieval(learner, gallery, fold=8, folds_only=True)
    assert whole["folds"]["count"] == 3
    assert alone["whole"] is None
    assert alone["folds"] == whole["folds"]


def by_shortlist(first: Any, pairs: Any, length: int, owner: list[int]) -> tuple[list[int], list[int], Any]:
    """(rank of each caption's image, of each image's best caption, which pairs are on a list), by sorting each list."""
    images, texts = first.shape
    wanted, of_texts, of_images = np.zeros((images, texts), bool), [], []
    for text in range(texts):
        order = np.argsort(-first[:, text]).tolist()
        wanted[order[:length], text] = True
        order = [*sorted(order[:length], key=lambda image: -pairs[image, text]), *order[length:]]
        of_texts.append(order.index(owner[text]) + 1)
    for image in range(images):
        order = np.argsort(-first[image]).tolist()
        wanted[image, order[:length]] = True
        order = [*sorted(order[:length], key=lambda text: -pairs[image, text]), *order[length:]]
        right = [place for place, text in enumerate(order) if owner[text] == image]
        of_images.append(right[0] + 1)
    return of_texts, of_images, wanted


@pytest.mark.parametrize("length", [1, 3, 100])
def test_a_shortlist_is_put_in_order_and_what_is_beyond_it_stays_behind(
    length: int, checkpoints: dict[str, Path], shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (learner, gallery), (dual, seen) = (opened(checkpoints[name], shards, most=6) for name in ("uniter", "clip"))
    texts = [text for own in gallery.captions for text in own]
    owner, images = [number for number in range(6) for _ in range(2)], list(range(6))
    first = pair_by_pair(dual, seen, images, texts).numpy()
    of_texts, of_images, wanted = by_shortlist(
        first, pair_by_pair(learner, gallery, images, texts).numpy(), length, owner
    )
    short = ["--shortlist", str(length), "--shortlist-by", str(checkpoints["clip"])]
    arguments = ["--task", "retrieval", "--shards", str(shards), "--max-images", "6", *short]
    found = run(capsys, str(checkpoints["uniter"]), *arguments)
    for way, ranks in (("text_to_image", of_texts), ("image_to_text", of_images)):
        for cut in (1, 5, 10):
            assert found["whole"][way][f"r_at_{cut}"] == pytest.approx(np.mean(np.array(ranks) <= cut))
    assert found["shortlist"]["pairs"] == wanted.sum()
    holds = [owner[text] in np.argsort(-first[:, text])[:length] for text in range(12)]
    assert found["whole"]["text_to_image"]["shortlist_recall"] == pytest.approx(np.mean(holds))
    if length == 100:
        every = run(capsys, str(checkpoints["uniter"]), *arguments[: -len(short)])
        assert every["whole"]["image_to_text"]["r_at_1"] == pytest.approx(found["whole"]["image_to_text"]["r_at_1"])


def test_folds_have_shortlists_of_their_own(checkpoints: dict[str, Path], shards: Path) -> None:
    (learner, gallery), (dual, seen) = (opened(checkpoints[name], shards, most=6) for name in ("uniter", "clip"))
    first = shortlist.First(dual, seen, 2)
    whole = shortlist.retrieval(learner, gallery, first, fold=3)
    alone = shortlist.retrieval(learner, gallery, first, fold=3, folds_only=True)
    assert (whole["folds"]["count"], alone["whole"]) == (2, None)
    assert alone["folds"] == whole["folds"]
    parts = []
    for start in (0, 3):
        own = range(start, start + 3)
        texts = [text for image in own for text in gallery.captions[image]]
        scores = [pair_by_pair(one, shown, list(own), texts) for one, shown in ((learner, gallery), (dual, seen))]
        ranks, *_ = by_shortlist(scores[1].numpy(), scores[0].numpy(), 2, [0, 0, 1, 1, 2, 2])
        parts.append(np.mean(np.array(ranks) <= 1))
    assert alone["folds"]["text_to_image"]["r_at_1"] == pytest.approx(np.mean(parts))


@given(data=st.data(), images=st.integers(1, 7), length=st.integers(1, 9))
def test_ranks_of_shortlists_are_those_of_sorting(data: Any, images: int, length: int) -> None:
    captions = data.draw(st.lists(st.integers(1, 3), min_size=images, max_size=images))
    owner = [image for image, count in enumerate(captions) for _ in range(count)]
    seed = data.draw(st.integers(0, 10**6))
    first, pairs = np.random.default_rng(seed).permuted(np.arange(2.0 * images * len(owner))).reshape(2, images, -1)
    of_texts, of_images, _ = by_shortlist(first, pairs, length, owner)
    found = recall.reranked(torch.tensor(pairs), torch.tensor(first), length, torch.tensor(owner))
    for way, ranks in (("text_to_image", of_texts), ("image_to_text", of_images)):
        assert found[way]["median_rank"] == np.sort(ranks)[(len(ranks) - 1) // 2]
        for cut in (1, 5, 10):
            assert found[way][f"r_at_{cut}"] == pytest.approx(np.mean(np.array(ranks) <= cut))


SHORT = {
    "half of it": (["--shortlist", "3"], "needs its length and a dual encoder"),
    "another reader of pairs": (["--shortlist", "3", "--shortlist-by", "uniter"], "reads every pair, too"),
    "none": (["--shortlist", "0", "--shortlist-by", "clip"], "shortlist is 0"),
}


@pytest.mark.parametrize("case", SHORT)
def test_a_wrong_shortlist_is_refused(
    case: str, checkpoints: dict[str, Path], shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, message = SHORT[case]
    given_ = [str(checkpoints[word]) if word in checkpoints else word for word in words]
    command = ["evaluate", str(checkpoints["uniter"]), "--task", "retrieval", "--shards", str(shards), "--quiet"]
    assert main([*command, *given_]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("system", ["uniter", "clip"])
def test_a_class_is_the_mean_of_its_prompts(
    system: str, checkpoints: dict[str, Path], shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two towers: of the prompts' vectors, made of length 1; others: of their scores."""
    learner, gallery = opened(checkpoints[system], shards)
    templates = ["a photo of a {}.", "a small {} and nothing else"]
    prompts = [template.replace("{}", thing) for thing in THINGS for template in templates]
    images = list(range(len(gallery)))
    if system == "clip":
        with torch.no_grad():
            vectors = learner.model.texts(texts_alone(gallery.make.tokenizer, prompts)).view(len(THINGS), 2, -1)
            scored = learner.model.images(gallery.batch(images)) @ F.normalize(vectors.mean(dim=1), dim=-1).t()
    else:
        scored = pair_by_pair(learner, gallery, images, prompts).view(len(images), len(THINGS), 2).mean(dim=2)
    labels = np.array([THINGS.index(scene(number)[0][1]) for number in TEST])
    wanted = float((scored.argmax(dim=1).numpy() == labels).mean())
    (tmp_path / "classes.txt").write_text("\n".join(THINGS), encoding="utf-8")
    (tmp_path / "templates.txt").write_text("\n".join(templates), encoding="utf-8")
    files = ["--classes", str(tmp_path / "classes.txt"), "--templates", str(tmp_path / "templates.txt")]
    found = run(capsys, str(checkpoints[system]), "--task", "zeroshot", "--shards", str(shards), *files)
    assert found["top_1"] == pytest.approx(wanted)
    assert found["chance_top_1"] == 1 / len(THINGS)
    assert "top_5" not in found  # of four classes every one is among the five best


@pytest.mark.parametrize("system", ["uniter", "clip"])
def test_winogrounds_sets_come_from_a_file_of_names(
    system: str, checkpoints: dict[str, Path], shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ["a red dog and a blue cup", "a blue dog and a red cup"]
    lines = [
        {"id": n, "image_0": name(TEST[n]), "image_1": f"{name(TEST[n + 1])}.png", "caption_0": texts[0],
         "caption_1": texts[1], "collapsed_tag": ("Object", "Relation")[n % 2]}
        for n in range(6)
    ]  # fmt: skip
    (tmp_path / "examples.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    words = ["--task", "winoground", "--shards", str(shards), "--file", str(tmp_path / "examples.jsonl")]
    found = run(capsys, str(checkpoints[system]), *words)
    learner, gallery = opened(checkpoints[system], shards)
    scores = [pair_by_pair(learner, gallery, [n, n + 1], texts).tolist() for n in range(6)]
    right = [(s[0][0] > s[0][1] and s[1][1] > s[1][0], s[0][0] > s[1][0] and s[1][1] > s[0][1]) for s in scores]
    assert found["text"] == pytest.approx(np.mean([text for text, _ in right]))
    assert found["image"] == pytest.approx(np.mean([image for _, image in right]))
    assert found["group"] == pytest.approx(np.mean([text and image for text, image in right]))
    assert found["tags"]["Object"]["sets"] == 3


def test_sugarcrepes_files_have_an_accuracy_each(
    checkpoints: dict[str, Path], shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    colours, learner_of = list(COLOURS), checkpoints["clip"]
    learner, gallery = opened(learner_of, shards)
    wanted = {}
    for file, shift in (("swap_att", 1), ("replace_att", 2)):
        entries, right = {}, []
        for place, number in enumerate(TEST):
            colour, thing, _ = scene(number)[0]
            other = colours[(colours.index(colour) + shift) % len(colours)]
            texts = [f"a {colour} {thing}", f"a {other} {thing}"]
            entries[str(place)] = {"filename": str(number), "caption": texts[0], "negative_caption": texts[1]}
            good, bad = pair_by_pair(learner, gallery, [place], texts)[0].tolist()
            right.append(good > bad)
        (tmp_path / f"{file}.json").write_text(json.dumps(entries), encoding="utf-8")
        wanted[file] = np.mean(right)
    files = [word for file in wanted for word in ("--file", str(tmp_path / f"{file}.json"))]
    words = ["--task", "sugarcrepe", "--shards", str(shards), "--match", "coco_id", *files]
    found = run(capsys, str(learner_of), *words)
    assert {name: figures["accuracy"] for name, figures in found["files"].items()} == pytest.approx(wanted)
    assert found["accuracy"] == pytest.approx(np.mean(list(wanted.values())))


WRONG = {
    "no file": ([], None, "task winoground reads a file"),
    "not JSON": (["--file", "FILE"], "{", "line 1"),
    "no records": (["--file", "FILE"], "[]", "it holds no records"),
    "no caption": (["--file", "FILE"], '[{"image_0": "a", "image_1": "b", "caption_0": "c"}]', "no text caption_1"),
    "no image": (
        ["--file", "FILE"],
        '[{"image_0": "elsewhere", "image_1": "b", "caption_0": "c", "caption_1": "d"}]',
        "no image of the split has the name 'elsewhere'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_named_with_its_record_and_a_cure(
    case: str, checkpoints: dict[str, Path], shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, content, message = WRONG[case]
    (tmp_path / "file.json").write_text(content or "", encoding="utf-8")
    given = [str(tmp_path / "file.json") if word == "FILE" else word for word in words]
    command = ["evaluate", str(checkpoints["clip"]), "--task", "winoground", "--shards", str(shards)]
    assert main([*command, *given, "--quiet"]) == 1
    told = capsys.readouterr().err
    assert message in told
    assert "fix:" in told


def test_a_recipe_that_matches_nothing_is_refused(
    checkpoints: dict[str, Path], shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", str(checkpoints["lexical"]), "--task", "retrieval", "--shards", str(shards), "--quiet"]
    assert main(command) == 1
    assert "no objective that matches images and texts" in capsys.readouterr().err

"""Texts of an image drawn by kind and by sentences: the same on any ranks and workers, and as the file has them."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pairloom import ConfigError, Draw, Loader, Options, StoreError
from pairloom.loader.drawing import Dice, drawn, part_of, sentences_of
from pairloom.loader.rows import open_rows
from pairloom.typed import build
from schemas.shards import SHARDS
from systems import recipes
from tests.building import negative, training_row, training_shard, write_table
from tests.pairloom.loader.loading import METADATA, WIDTH, picture
from trainer.learner import Learner, shapes_of

DOCS = Path(__file__).parents[3] / "docs"
IMAGES = 14  # the last has no synthetic caption
SENTENCES = (
    ("A red dog.", "It sits on a bus!", "Is it old?", "A tree stands by."),
    ("One boat", "Two cups.", "3.5 apples."),
)
LONG = (" ".join(SENTENCES[0]), "One boat\nTwo cups. 3.5 apples.")
ONE_OF_EACH = (Draw(kinds={"original": 1}), Draw(kinds={"synthetic": 1}, sentences=(1, 2), consecutive=0.5, count=2))


def captions(image: int) -> list[dict[str, Any]]:
    said = [(f"dog {image}", "original"), (f"cup {image}", "original"), (f"alt {image}", "alt"), (f"so {image}", None)]
    said += [(f"{text} No {image}.", "synthetic") for text in LONG] if image < IMAGES - 1 else []
    return [{"text": text, "original": text, "lang": "en", "kind": kind} for text, kind in said]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = []
    for image in range(IMAGES):
        texts = captions(image)
        rows.append(training_row(
            image, ["?"] * len(texts), np.tile([0.0, 0, 9, 9], (2, 1)), np.zeros((2, WIDTH)), image=picture(image),
            captions=texts, negatives=[[negative(LONG[0])]] * len(texts), prob_ids=np.zeros((2, 2)),
            prob_values=np.zeros((2, 2)),
        ))  # fmt: skip
    made = {f"train-{n:05d}": training_shard(rows[n * 7 : n * 7 + 7], "train", METADATA) for n in range(2)}
    folder = tmp_path_factory.mktemp("kinds") / "shards"
    return write_table(folder, SHARDS, made, group_rows=3, indexed=True)


def truth(folder: Path) -> dict[bytes, dict[str, str | None]]:
    """image id -> its captions and their kinds, as pyarrow reads them."""
    rows = [row for file in sorted(folder.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]
    return {row["image_id"]: {said["text"]: said["kind"] for said in row["captions"]} for row in rows}


def taken(folder: Path, draw: tuple[Draw, ...], steps: int = 7, rank: int = 0, ranks: int = 1, workers: int = 0) -> Any:
    """(image, its texts) of each row, by step."""
    loader = Loader(
        folder, columns=("width",), draw=draw, batch_size=4, rank=rank, world_size=ranks, workers=workers, seed=3
    )
    found = [
        list(zip(batch.image_ids, batch.texts, batch.others, strict=True)) for batch in itertools.islice(loader, steps)
    ]
    loader.close()
    return found


def test_a_row_is_an_image_with_one_text_of_each_draw(shards: Path) -> None:
    kinds = truth(shards)
    rows = list(itertools.chain(*taken(shards, ONE_OF_EACH, steps=13)))  # 52 rows: four epochs of 13
    for start in range(0, 52, 13):
        epoch = [image for image, _, _ in rows[start : start + 13]]
        assert set(epoch) == {image for image, of_image in kinds.items() if "synthetic" in of_image.values()}
    for image, own, others in rows:
        assert kinds[image][own] == "original"
        assert len(others) == len(set(others)) == 2
        for part in others:
            number = int.from_bytes(image, "big")
            assert part in {
                " ".join(chosen)
                for said in SENTENCES
                for length in (1, 2)
                for chosen in itertools.combinations((*said, f"No {number}."), length)
            }
    first, later = ({image: (own, others) for image, own, others in rows[at : at + 13]} for at in (0, 13))
    assert sum(first[image] != later[image] for image in first) > 9  # drawn anew


def test_ranks_and_workers_draw_the_same_texts(shards: Path) -> None:
    whole = taken(shards, ONE_OF_EACH)
    for ranks in (2, 3):
        parts = [taken(shards, ONE_OF_EACH, rank=rank, ranks=ranks, workers=int(rank == 1)) for rank in range(ranks)]
        assert [[row for part in step for row in part] for step in zip(*parts, strict=True)] == whole


def test_a_loader_resumes_in_the_middle_of_an_epoch_with_the_same_texts(shards: Path) -> None:
    loader = Loader(shards, columns=("width",), draw=ONE_OF_EACH, batch_size=4, seed=3)
    loader.load_state_dict(loader.state_dict() | {"step": 5})
    batch = next(iter(loader))
    assert list(zip(batch.image_ids, batch.texts, batch.others, strict=True)) == taken(shards, ONE_OF_EACH)[5]


def test_captions_of_no_kind_are_unknown_and_kinds_that_are_nowhere_are_refused(shards: Path) -> None:
    for step in taken(shards, (Draw(kinds={"unknown": 1}),)):
        assert all(own.startswith("so ") for _, own, _ in step)
    with pytest.raises(StoreError, match="no image of split train has captions of these kinds: question"):
        taken(shards, (Draw(kinds={"question": 1}),))


def test_shards_of_earlier_versions_have_captions_of_unknown_kind(shards: Path, tmp_path: Path) -> None:
    table = pq.read_table(shards / "train-00000.parquet")
    old = [[{k: v for k, v in said.items() if k != "kind"} for said in row] for row in table["captions"].to_pylist()]
    table = table.set_column(table.column_names.index("captions"), "captions", [old])
    write_table(tmp_path / "old", SHARDS, {"train-00000": table}, indexed=True)
    assert len(open_rows(tmp_path / "old", "train", ("captions",), (), draw=(Draw(kinds={"unknown": 1}),))) == 7


def test_a_negative_is_cut_as_the_text_is_or_its_length_would_tell(shards: Path) -> None:
    draw = (Draw(kinds={"synthetic": 1}, sentences=(1, 1)),)
    rows = open_rows(shards, "train", ("captions", "negatives", "image_id"), (), draw=draw)
    for place in range(3):
        row = rows.at(0, place, 1, 0)
        assert all(len(sentences_of(text)) == 1 for text in [row.text, *row.negatives()])
        other = row.other(np.random.default_rng(place))
        assert other is not None
        assert len(sentences_of(other.text)) == 1
        assert other.text == rows.at(0, [rows.at(0, n).image_id for n in range(3)].index(other.image_id), 1, 0).text


def test_kinds_come_by_their_weights_whatever_the_number_of_captions() -> None:
    texts, kinds = ["a", "b", "c", "d"], ["original", "original", "original", "synthetic"]
    draws = (Draw(kinds={"original": 1, "synthetic": 3, "alt": 9}),)  # an image without alt texts has none to draw
    count = Counter(drawn(draws, texts, kinds, Dice(number)).texts[0] for number in range(8000))
    assert abs(count["d"] - 6000) < 5 * (8000 * 0.75 * 0.25) ** 0.5
    assert all(abs(count[text] - 2000 / 3) < 5 * (2000 / 3) ** 0.5 for text in "abc")


TEXTS = st.text(alphabet='ab .!?。\n"é', max_size=40)


@given(TEXTS)
def test_sentences_are_the_whole_text_cut(text: str) -> None:
    parts = sentences_of(text)
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert all(part == part.strip() and part for part in parts)
    assert all(sentences_of(part) == [part] for part in parts)


@given(TEXTS, st.integers(1, 4), st.integers(0, 3), st.sampled_from((0.0, 0.5, 1.0)), st.integers(0, 1000))
def test_a_part_is_so_many_sentences_in_their_order(
    text: str, least: int, more: int, consecutive: float, number: int
) -> None:
    draw = Draw(sentences=(least, least + more), consecutive=consecutive)
    whole, part = sentences_of(text), part_of(text, draw, Dice(number))
    if len(whole) <= least:
        assert part == text
        return
    found = next(  # the parts joined by blanks are unique here: no sentence has a blank after its mark
        places
        for length in range(least, min(least + more, len(whole)) + 1)
        for places in itertools.combinations(range(len(whole)), length)
        if part in (" ".join(whole[place] for place in places), text)
    )
    assert found


def test_runs_and_any_sentences_are_drawn_evenly() -> None:
    text = "A. B. C. D."
    for consecutive, choices in ((1.0, {"A. B.", "B. C.", "C. D."}), (0.0, None)):
        draw = Draw(sentences=(2, 2), consecutive=consecutive)
        count = Counter(part_of(text, draw, Dice(number)) for number in range(6000))
        expected = choices or {" ".join(pair) for pair in itertools.combinations(("A.", "B.", "C.", "D."), 2)}
        assert set(count) == expected
        mean = 6000 / len(expected)
        assert all(abs(times - mean) < 5 * mean**0.5 for times in count.values())


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"kinds": {"alt": 0}}, "kinds.alt"),
        ({"sentences": [3, 1]}, r"sentences is \[3, 1\]"),
        ({"sentences": [0, 1]}, r"sentences is \[0, 1\]"),
        ({"count": 0}, "count"),
        ({"kind": {}}, "there is no setting"),
    ],
)
def test_a_wrong_draw_is_refused_by_name(section: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build(Draw, section, "recipe.yaml")


def test_a_recipe_that_draws_texts_which_nobody_reads_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"draws 2 texts of an image, and no objective reads more than one"):
        recipes.load("uniter", "tiny", {"text": {"draw": [{"count": 2}]}})


def test_the_recipe_of_the_docs_trains_on_one_original_and_two_parts_of_synthetic_ones(
    shards: Path, tmp_path: Path
) -> None:
    block = next(
        b
        for b in re.findall(r"```yaml\n(.*?)```", (DOCS / "reference" / "loader.md").read_text(), re.S)
        if "draw:" in b
    )
    assert yaml.safe_load(block)["extends"] == "clip"
    (tmp_path / "mixed.yaml").write_text(block)
    recipe = recipes.load(tmp_path / "mixed.yaml", "tiny", {"text": {"vocab_size": 200}})
    loader = Loader(shards, recipe, batch_size=4, options=Options(augment=False))
    batch = next(iter(loader))
    assert batch.others is not None
    assert batch.others.input_ids_BT.shape[:2] == (4, 2)
    learner = Learner(recipe, shapes_of(recipe, loader.tokenizer, loader.metadata()))
    learner.eval()
    loss = learner(batch).loss
    loss.backward()
    assert torch.allclose(loss, by_hand(learner, batch), atol=1e-5)


def by_hand(learner: Learner, batch: Any) -> torch.Tensor:
    """The mean over three texts of CLIP's loss, each by torch's cross-entropy. No image comes twice in the batch."""
    scale = learner.heads["contrastive"]()
    images, own = learner.model.images(batch), batch.words
    ids = [(own.input_ids_BT, own.attention_mask_BT)]
    ids += [(batch.others.input_ids_BT[:, k], batch.others.attention_mask_BT[:, k]) for k in range(2)]
    losses = []
    for input_ids, mask in ids:
        words = type(own)(input_ids, mask, input_ids, input_ids, input_ids)
        logits = scale * images @ learner.model.texts(type(batch)(**{**vars(batch), "words": words})).t()
        answers = torch.arange(4)
        losses.append((F.cross_entropy(logits, answers) + F.cross_entropy(logits.t(), answers)) / 2)
    return torch.stack(losses).mean()

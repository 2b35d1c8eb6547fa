"""Rows of text alone: drawn from texts without images where there are such, the same on any number of ranks."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from inspection.lint import lint
from pairloom.errors import ConfigError, StoreError
from pairloom.loader import Loader, Options
from pairloom.loader.batch import Batch
from pairloom.loader.texts import Texts, open_texts
from pairloom.loader.tokenizer import Tokenizer
from pairloom.store.folder import open_folder
from pipeline.cli import main
from pipeline.verbs import texts as verb
from schemas.texts import TEXTS
from tests.building import numbered, write_table
from tests.inspection.synthetic import FLOW
from tests.pairloom.loader.loading import WORDS, recipe, write_folder
from tests.training import train
from trainer import loop

LISTED = [f"nobody photographed {word} {other}" for word, other in itertools.product(WORDS, WORDS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("shards"), splits=("train", "val"))


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table that `pairloom texts` made of two lists, with an empty line and a text in another language."""
    here = tmp_path_factory.mktemp("texts")
    (here / "a.txt").write_text("\n".join([*LISTED[:100], "", " "]), encoding="utf-8")
    rows = [{"text": text, "lang": "en"} for text in LISTED[100:]] + [{"text": "niemand", "lang": "de"}]
    (here / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert main(["texts", str(here / "a.txt"), str(here / "b.jsonl"), "--out", str(here / "table")]) == 0
    return here / "table"


def test_the_table_has_every_text_in_order_and_no_empty_one(listed: Path) -> None:
    table = open_folder(listed)
    assert table.complete
    assert [text for _, shard in table.tables() for text in shard["text"].to_pylist()] == [*LISTED, "niemand"]
    assert lint(listed, FLOW) == []


def test_lists_longer_than_a_shard_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "SHARD_TEXTS", 7)
    (tmp_path / "a.txt").write_text("\n".join(LISTED[:20]), encoding="utf-8")
    assert main(["texts", str(tmp_path / "a.txt"), "--out", str(tmp_path / "out")]) == 0
    assert [entry.rows for entry in open_folder(tmp_path / "out").shards] == [7, 7, 6]
    assert list(open_texts(tmp_path / "out", recipe("simvlm")).all()) == LISTED[:20]


def test_a_table_is_replaced_only_when_asked(listed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text("one\n", encoding="utf-8")
    command = ["texts", str(tmp_path / "a.txt"), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    assert main(command) == 1
    assert "add --redo" in capsys.readouterr().err
    assert main([*command, "--redo"]) == 0
    assert main(["texts", str(tmp_path / "none.txt"), "--out", str(tmp_path / "other")]) == 1
    assert not (tmp_path / "other").exists()


def test_lint_finds_an_empty_text(tmp_path: Path) -> None:
    write_table(tmp_path, TEXTS, {"00000": TEXTS.table(text=["a", " ", "b"], lang=["en", None, None])})
    (problem,) = lint(tmp_path, FLOW)
    assert "the text is empty" in str(problem)


def grouped(folder: Path, langs: list[str | None]) -> Path:
    """Texts t0, t1, … of these languages in two shards of row groups of three."""
    half = len(langs) // 2
    tables = [
        TEXTS.table(text=[f"t{row}" for row in rows], lang=[langs[row] for row in rows])
        for rows in (range(half), range(half, len(langs)))
    ]
    return write_table(folder, TEXTS, numbered(tables), group_rows=3)


def test_every_text_of_a_wanted_or_unknown_language_is_equally_likely(tmp_path: Path) -> None:
    langs = ["en", "de", None, "de", "de", "de", "en", "fr", "en", None, "en", "en", "de", "en", "en", None]
    texts = open_texts(grouped(tmp_path, langs), recipe("simvlm"))
    wanted = [f"t{row}" for row, lang in enumerate(langs) if lang in ("en", None)]
    assert (len(texts), list(texts.all())) == (len(wanted), wanted)
    rng = np.random.default_rng(0)
    counts = Counter(texts.draw(rng) for _ in range(20_000))
    assert set(counts) == set(wanted)
    assert stats.chisquare(list(counts.values())).pvalue > 1e-4
    every = replace(recipe("simvlm"), text=replace(recipe("simvlm").text, languages=()))
    assert len(open_texts(tmp_path, every)) == len(langs)


def spoken(batch: Batch, tokenizer: Tokenizer) -> list[str]:
    ids = batch.words.input_ids_BT.tolist()
    return [tokenizer.backend.decode(row, skip_special_tokens=True).strip() for row in ids]


def batches(name: str, folder: Path, texts: Texts | None, count: int, ranks: int = 1) -> list[list[Batch]]:
    """The first batches of every rank."""
    options = Options(texts=texts)
    loaders = [
        Loader(folder, recipe(name), seed=5, batch_size=16, rank=rank, world_size=ranks, options=options)
        for rank in range(ranks)
    ]
    return [list(itertools.islice(loader, count)) for loader in loaders]


def test_simvlm_takes_a_ninth_of_its_rows_from_the_texts(folder: Path, listed: Path) -> None:
    texts = open_texts(listed, recipe("simvlm"))
    options = Options(texts=texts)
    loader = Loader(folder, recipe("simvlm"), seed=5, batch_size=16, options=options)
    shown = texts_shown = 0
    for batch in itertools.islice(loader, 60):
        for text, pictured in zip(spoken(batch, loader.tokenizer), batch.targets["pictured"].tolist(), strict=True):
            assert (text in LISTED) == (not pictured)
            shown, texts_shown = shown + 1, texts_shown + (not pictured)
    assert stats.binomtest(texts_shown, shown, 0.111).pvalue > 1e-4


def test_without_texts_the_caption_stands_for_one(folder: Path) -> None:
    loader = Loader(folder, recipe("simvlm"), seed=5, batch_size=16)
    hidden = [
        text
        for batch in itertools.islice(loader, 20)
        for text, pictured in zip(spoken(batch, loader.tokenizer), batch.targets["pictured"].tolist(), strict=True)
        if not pictured
    ]
    assert hidden
    assert all(set(text.split()) <= set(WORDS) for text in hidden)


def test_two_ranks_draw_the_texts_of_one(folder: Path, listed: Path) -> None:
    texts = open_texts(listed, recipe("simvlm"))
    (alone,), (first, second) = (batches("simvlm", folder, texts, 6, ranks) for ranks in (1, 2))
    for whole, *parts in zip(alone, first, second, strict=True):
        rows = [row for part in parts for row in ids_of(part)]
        assert ids_of(whole) == rows


def ids_of(batch: Batch) -> list[list[int]]:
    seen, ids = batch.words.attention_mask_BT, batch.words.input_ids_BT
    return [row[mask].tolist() for row, mask in zip(ids, seen, strict=True)]


def test_unimos_steps_of_text_alone_take_the_texts_and_no_other_step_does(folder: Path, listed: Path) -> None:
    options = Options(texts=open_texts(listed, recipe("unimo")))
    loader = Loader(folder, recipe("unimo"), seed=5, batch_size=16, options=options)
    nobody = loader.tokenizer.words("nobody photographed").ids_T[1:-1].tolist()
    kinds: dict[bool, set[bool]] = {True: set(), False: set()}
    for batch in itertools.islice(loader, 40):
        labels, ids = batch.words.labels_BT, batch.words.input_ids_BT
        whole = labels.where(labels >= 0, ids)
        has_text = all(row[1 : 1 + len(nobody)] == nobody for row in whole.tolist())
        kinds[batch.objective == "text_alone"].add(has_text)
    assert kinds == {True: {True}, False: {False}}


def test_training_reads_the_texts_that_its_settings_name(folder: Path, listed: Path) -> None:
    config = loop.Config(steps=2, batch_size=8, threads=1, texts=str(listed))
    result = train("simvlm", folder, config)
    unknown = result.tokenizer.backend.token_to_id("[UNK]")
    assert unknown not in result.tokenizer.words(LISTED[0]).ids_T  # no caption has an h or a y
    assert result.curve != train("simvlm", folder, replace(config, texts=None)).curve


def test_texts_that_nothing_reads_are_refused(listed: Path) -> None:
    with pytest.raises(ConfigError, match="recipe clip has no rows of text alone"):
        open_texts(listed, recipe("clip"))


def test_no_text_in_the_languages_and_a_damaged_table_are_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no text is in en"):
        open_texts(grouped(tmp_path / "german", ["de"] * 6), recipe("simvlm"))
    with pytest.raises(StoreError, match="no finished table of texts"):
        open_texts(folder, recipe("simvlm"))
    there = grouped(tmp_path / "damaged", ["en"] * 6)
    texts = open_texts(there, recipe("simvlm"))
    shard = there / "00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(StoreError, match="the texts cannot be read"):
        list(texts.all())

"""Texts in a recipe's batches, and the page that says what a batch holds."""

from __future__ import annotations

import itertools
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from pairloom import Batch, ColumnBatch
from pairloom.errors import ConfigError, MissingColumnsError
from pairloom.loader import Loader, Options
from pairloom.loader.batch import RegionBatch, WordBatch
from pairloom.store.folder import open_folder
from tests.pairloom.loader.loading import recipe, tokenizer, write_folder

ALL = Options(strings=("captions", "tags", "negatives"))
DOCS = Path(__file__).resolve().parents[3] / "docs" / "reference" / "loader.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("shards"))


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_the_texts_are_those_of_the_table_and_nothing_else_changes(folder: Path, workers: int) -> None:
    stored = {row["image_id"]: row for _, table in open_folder(folder).tables() for row in table.to_pylist()}
    mine = Loader(folder, recipe(), tokenizer(), batch_size=7, workers=workers, options=ALL)
    plain = Loader(folder, recipe(), tokenizer(), batch_size=7)
    for batch, without in itertools.islice(zip(mine, plain, strict=True), 12):
        assert without.strings == {}
        assert torch.equal(batch.words.input_ids_BT, without.words.input_ids_BT)
        for number, image_id in enumerate(batch.image_ids):
            row, caption = stored[image_id], int(batch.caption_index_B[number])
            assert batch.strings["captions"][number] == row["captions"][caption]["text"]
            assert batch.strings["tags"][number] == tuple(tag["text"] for tag in row["tags"])
            negatives = tuple(negative["text"] for negative in row["negatives"][caption])
            assert batch.strings["negatives"][number] == negatives
        taken = batch.take(torch.tensor([2, 0]))
        assert taken.strings["captions"] == (batch.strings["captions"][2], batch.strings["captions"][0])
    mine.close()


def test_texts_that_the_shards_lack_or_columns_name_are_refused(tmp_path: Path, folder: Path) -> None:
    bare = write_folder(tmp_path / "bare", without=("tags",))
    with pytest.raises(MissingColumnsError, match="tags"):
        Loader(bare, recipe(), tokenizer(), batch_size=4, options=ALL)
    with pytest.raises(ConfigError, match="strings is"):
        Loader(folder, columns=("tags",), batch_size=4, options=ALL)


@pytest.mark.parametrize("kind", [Batch, WordBatch, RegionBatch, ColumnBatch])
def test_the_page_lists_every_field_of_a_batch(kind: type) -> None:
    page = DOCS.read_text(encoding="utf-8").partition("## A batch")[2].partition("## What it promises")[0]
    for field in fields(kind):
        assert f"`{field.name}`" in page

"""Exports of pairs in the training code that they are made for: open_clip's own data sets, and Megatron-Energon."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.pipeline.features.lists import run
from tests.pipeline.features.pairs import TEXTS, same_picture

SMALL = ("--shard-bytes", "3000")


def as_it_is(picture: Image.Image) -> Any:
    return np.asarray(picture.convert("RGB"))


def said(texts: list[str]) -> list[str]:
    """In place of a tokenizer."""
    return texts


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # of webdataset and torch's loader
def test_open_clip_trains_from_the_tars(shards: Path, tmp_path: Path) -> None:
    from open_clip_train.data import get_dataset_size, get_wds_dataset

    run("export", shards, "--as", "webdataset", "--out", tmp_path, *SMALL)
    tars = sorted((tmp_path / "train").glob("*.tar"))
    assert len(tars) > 2
    pattern = str(tmp_path / f"train/{{00000..{len(tars) - 1:05d}}}.tar")
    assert get_dataset_size(pattern) == (9, len(tars))  # of sizes.json
    settings = Namespace(val_data=pattern, val_num_samples=None, batch_size=4, workers=0)
    batches = get_wds_dataset(settings, as_it_is, is_train=False, tokenizer=lambda text: [text]).dataloader
    pairs = [(picture, text) for pictures, texts in batches for picture, text in zip(pictures, texts, strict=True)]
    assert len(pairs) == 9
    for number, (picture, text) in enumerate(pairs):
        assert text == TEXTS[0]
        assert same_picture(Image.fromarray(np.asarray(picture)), number)


def test_open_clip_trains_from_the_list(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from open_clip_train.data import CsvDataset

    monkeypatch.chdir(tmp_path)
    run("export", shards, "--as", "open-clip-csv", "--out", "out")
    found = CsvDataset("out/train/pairs.csv", as_it_is, "filepath", "title", tokenizer=said)  # open_clip's defaults
    numbers = [number for number in range(9) for _ in range(1 + number % 3)]
    assert len(found) == len(numbers)
    for place, number in enumerate(numbers):
        picture, _ = found[place]
        assert same_picture(Image.fromarray(picture), number)
    texts = Counter(found[place][1] for place in range(len(found)))
    assert texts == Counter(" ".join(text.split()) for n in range(9) for text in TEXTS[: 1 + n % 3])


@pytest.mark.filterwarnings("ignore")
def test_energon_opens_the_tars(shards: Path, tmp_path: Path) -> None:
    energon = pytest.importorskip("megatron.energon")
    run("export", shards, "--as", "webdataset", "--out", tmp_path, *SMALL, "--energon")
    here = energon.WorkerConfig(rank=0, world_size=1, num_workers=0)
    found = energon.get_val_dataset(str(tmp_path), worker_config=here, batch_size=1)
    samples = [one for batch in energon.get_loader(found) for one in zip(batch.__key__, batch.caption, strict=True)]
    assert [text for _, text in samples] == TEXTS[:1] * 2
    assert [key.partition("-")[0] for key, _ in samples] == ["val2014_COCO_000009", "val2014_COCO_000010"]

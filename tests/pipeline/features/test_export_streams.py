"""Exports of pairs for streaming loaders, opened by these: MosaicML's streaming, litdata and lance."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from formats import exports
from formats.exports.pairs import Caption, Pair
from formats.exports.settings import Settings
from pipeline.features import pieces
from tests.formats.datasets.layouts import bodies, read, texts
from tests.pipeline.features.lists import failing, run
from tests.pipeline.features.pairs import CLASSES, TEXTS, picture, same_picture

SMALL = ("--with-features", "--shard-bytes", "1500")  # files of two or three pairs


def exported(layout: str, shards: Path, out: Path) -> Path:
    assert run("export", shards, "--as", layout, "--out", out, *SMALL)["checked"] == 11
    return out


def features(number: int) -> Any:
    return np.arange(8).reshape(2, 4) + number


def facts_of(number: int) -> dict[str, Any]:
    return {
        "captions": TEXTS[: 1 + number % 3],
        "key": f"val2014/COCO_{number:06d}",
        "url": f"http://h/{number}",
        "classes": [CLASSES[number % 2], "cat"],
    }


def test_streaming_opens_mds(shards: Path, tmp_path: Path) -> None:
    streaming = pytest.importorskip("streaming")  # its pins fit no set of ours. It works all the same
    out = exported("mds", shards, tmp_path / "out")
    found = list(streaming.StreamingDataset(local=str(out / "train"), batch_size=1, shuffle=False))
    assert len(found) == 9
    for number, one in enumerate(found):
        assert {name: one[name] for name in facts_of(number)} == facts_of(number)
        assert same_picture(one["image"], number)
        assert (one["width"], one["height"]) == (64, 48)
        assert np.array_equal(one["features"], features(number))
        assert np.allclose(one["boxes"][0], np.array([1, 2, 30, 40]) + number)


def test_what_was_exported_as_mds_is_imported_with_all_captions(shards: Path, tmp_path: Path) -> None:
    out = exported("mds", shards, tmp_path / "out")
    assert len(list((out / "train").glob("shard.*.mds"))) > 2
    rows, bad = read(out)
    assert bad == []
    numbers = [int(row.extra["key"][-6:]) for row in rows]
    assert sorted(numbers) == list(range(11))
    assert texts(rows) == [tuple(TEXTS[: 1 + number % 3]) for number in numbers]
    assert bodies(out, rows) == [picture(number) for number in numbers]


# litdata reads through a map of the file, and decodes with torchvision, which will leave that to another package.
@pytest.mark.filterwarnings("ignore:The given buffer is not writable", "ignore:The image decoding and encoding")
def test_litdata_opens_its_chunks(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    litdata = pytest.importorskip("litdata")
    monkeypatch.setenv("HOME", str(tmp_path))
    out = exported("litdata", shards, tmp_path / "out")
    found = list(litdata.StreamingDataset(str(out / "train")))
    assert len(found) == 9
    for number, one in enumerate(found):
        facts = json.loads(one["facts"])
        assert {name: facts[name] for name in facts_of(number)} == facts_of(number)
        assert same_picture(Image.fromarray(one["image"].permute(1, 2, 0).numpy()), number)
        assert (one["caption"], one["width"], one["height"]) == (TEXTS[0], 64, 48)
        assert np.array_equal(one["features"], features(number))


def test_lance_opens_its_data_set(shards: Path, tmp_path: Path) -> None:
    lance = pytest.importorskip("lance")
    out = exported("lance", shards, tmp_path / "out")
    table = lance.dataset(str(out / "train/pairloom.lance"))
    assert table.count_rows() == 9
    for number, one in enumerate(table.take([5, 2]).to_pylist()):
        number = (5, 2)[number]
        assert {name: one[name] for name in facts_of(number)} == facts_of(number)
        assert same_picture(Image.open(io.BytesIO(one["image"])), number)
        assert np.array_equal(one["features"], features(number))


def test_a_broken_off_export_to_lance_goes_on(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lance = pytest.importorskip("lance")  # whose threads do not survive a fork, so that this one is not killed
    out = tmp_path / "out"

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pieces, "read_group", failing(1, interrupt))
    with pytest.raises(AssertionError, match="interrupted: finished shards are kept"):
        run("export", shards, "--as", "lance", "--out", out, *SMALL)
    monkeypatch.undo()
    assert run("export", shards, "--as", "lance", "--out", out, *SMALL)["resumed"] == 1
    keys = lance.dataset(str(out / "train/pairloom.lance")).to_table(columns=["key"])["key"].to_pylist()
    assert keys == [f"val2014/COCO_{number:06d}" for number in range(9)]


TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
CAPTIONS = st.lists(st.tuples(TEXT, st.none() | TEXT, st.none() | TEXT), max_size=3)


@pytest.mark.parametrize("layout", ["arrow-vilt", "hf", "litdata", "mds", "webdataset"])
def test_any_keys_captions_and_sizes_come_back(layout: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    @settings(max_examples=15)
    @given(said=st.dictionaries(TEXT.filter(bool), CAPTIONS, min_size=1, max_size=5), most=st.integers(1, 900))
    def holds(said: dict[str, list[tuple[str, str | None, str | None]]], most: int) -> None:
        module, folder = exports.load(layout), tmp_path_factory.mktemp("any")
        asked = Settings(shard_bytes=most)
        wanted = {
            key: Pair(
                key=key, image=picture(number), format="jpeg", width=64, height=48,
                captions=[Caption(*one) for one in captions],
            )
            for number, (key, captions) in enumerate(said.items())
        }  # fmt: skip
        writer = module.Writer(folder, asked, {})
        for pair in wanted.values():
            writer.add(module.entry(pair, asked))
        writer.close()
        found = {pair.key: pair for pair in module.read(folder)}
        assert list(found) == list(wanted) or layout == "webdataset"
        for key, pair in found.items():
            assert pair.image == wanted[key].image
            assert [one.text for one in pair.captions] == [one.text for one in wanted[key].captions]
            if layout != "arrow-vilt":  # which has no place for languages
                assert list(pair.captions) == list(wanted[key].captions)

    holds()

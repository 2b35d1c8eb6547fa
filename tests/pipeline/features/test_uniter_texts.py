"""UNITER's text database, out and in: read as its own code does, and tokens against transformers' BERT."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lmdb
import msgpack
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertTokenizer

from formats.features import captions, uniter_texts
from pairloom.errors import InputError
from tests.formats.features import made
from tests.pipeline.features.lists import records, refused, run
from tests.pipeline.features.pairs import TEXTS

PIECES = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "!",
    '"',
    ",",
    "a",
    "A",
    "dog",
    "cat",
    "on",
    "mat",
    "c",
    "##at",
    "##s",
]
PIECES += ["und", "猫", "O", "##l", "Ö", "m"]


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    path.write_text("".join(f"{piece}\n" for piece in PIECES), encoding="utf-8")
    return path


def frame(value: bytes) -> bytes:
    """The content of an LZ4 frame, by the package that UNITER uses where it is there, else by Arrow's own library."""
    try:
        from lz4.frame import decompress
    except ModuleNotFoundError:
        return bytes(pa.CompressedInputStream(pa.py_buffer(value), "lz4").read())
    return bytes(decompress(value))


class TxtTokLmdb:
    """As UNITER's data.py opens a database and gets texts from it."""

    def __init__(self, folder: Path) -> None:
        self.id2len, self.txt2img, self.img2txts, meta = (
            json.loads((folder / f"{name}.json").read_text()) for name in ("id2len", "txt2img", "img2txts", "meta")
        )
        self.cls_, self.sep, self.mask, self.v_range = (meta[name] for name in ("CLS", "SEP", "MASK", "v_range"))
        self.env = lmdb.open(str(folder), readonly=True, create=False)

    def __getitem__(self, name: str) -> dict[str, Any]:
        with self.env.begin(buffers=True) as transaction:
            value = bytes(transaction.get(name.encode("utf-8")) or b"")
        found: dict[str, Any] = msgpack.loads(frame(value), raw=False)
        return found


def test_uniters_code_gets_the_texts(shards: Path, vocabulary: Path, tmp_path: Path) -> None:
    said = run("export", shards, "--as", "uniter-txt", "--vocab", vocabulary, "--out", tmp_path / "out")
    assert said["checked"] == 11
    found, bert = TxtTokLmdb(tmp_path / "out/train"), BertTokenizer(str(vocabulary), do_lower_case=False)
    assert (found.cls_, found.sep, found.mask, found.v_range) == (2, 3, 4, [5, len(PIECES)])
    for number in range(9):
        key = f"val2014/COCO_{number:06d}"
        names = found.img2txts[f"{key}.npz"]
        assert [found[name]["caption"] for name in names] == TEXTS[: 1 + number % 3]
        for name in names:
            text = found[name]
            assert text["input_ids"] == bert.encode(text["caption"], add_special_tokens=False)
            assert found.id2len[name] == len(text["input_ids"]) == len(text["toked_caption"])
            assert found.txt2img[name] == text["img_fname"] == f"{key}.npz"


def test_a_vocabulary_is_asked_for_before_any_work(shards: Path, tmp_path: Path) -> None:
    assert "needs a vocabulary" in refused("export", shards, "--as", "uniter-txt", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def write(folder: Path, texts: dict[str, Any]) -> Path:
    """A database as UNITER's prepro.py writes it."""
    with lmdb.open(str(folder), map_size=1 << 24) as env, env.begin(write=True) as transaction:
        for name, content in texts.items():
            packed = pa.compress(msgpack.dumps(content, use_bin_type=True), "lz4", asbytes=True)
            transaction.put(name.encode(), packed)
    (folder / "id2len.json").write_text(json.dumps(dict.fromkeys(texts, 1)))
    return folder


def test_captions_come_as_they_were_or_from_their_pieces(tmp_path: Path) -> None:
    texts: dict[str, Any] = {
        "1": {
            "caption": "A dog.",
            "toked_caption": ["A", "dog", "@@."],
            "img_fname": "coco_train2014_000000000007.npz",
        },
        "2": {"toked_caption": ["two", "cat", "@@##s"], "img_fname": "coco_train2014_000000000007.npz"},
        "3": {"raw": "a bus", "toked_caption": ["a", "bus"], "img_fname": "flickr30k_000000000009.npz"},
        "4": {"sent": "a mat", "img_fname": "gcc_train_000000000011.npz"},
    }
    found = captions.read(write(tmp_path / "db", texts))
    assert found.of("COCO_train2014_000000000007")[0] == [("A dog.", None), ("two cats", None)]
    assert found.of("9")[0] == [("a bus", None)]
    assert found.of("gcc_train_000000000011.npz")[0] == [("a mat", None)]
    assert list(found.unasked()) == []


def test_texts_that_are_no_captions_are_named(tmp_path: Path) -> None:
    question = {"question": "why?", "toked_question": ["why", "@@?"], "img_fname": "coco_train2014_000000000007.npz"}
    with pytest.raises(InputError, match="'5' is no caption; it has img_fname, question, toked_question"):
        captions.read(write(tmp_path / "vqa", {"5": question}))
    with pytest.raises(InputError, match="belongs to 2 pictures"):
        captions.read(write(tmp_path / "nlvr", {"6": {"sentence": "both", "img_fname": ["a.npz", "b.npz"]}}))


def test_damage_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "db", {"1": {"caption": "a", "img_fname": "1.npz"}})
    with lmdb.open(str(folder), map_size=1 << 24) as env, env.begin(write=True) as transaction:
        transaction.put(b"1", b"no frame")
    with pytest.raises(InputError, match="the text '1' can't be read"):
        captions.read(folder)
    (folder / "txt2img.json").write_text('{"2": "2.npz"}')
    with pytest.raises(InputError, match="the database lacks it"):
        captions.read(folder)


@given(st.lists(st.lists(st.text("abcäö", min_size=1, max_size=4), min_size=1, max_size=3), max_size=6))
def test_pieces_are_put_together_to_the_words_that_were_cut(words: list[list[str]]) -> None:
    pieces = [f"{'@@##' * bool(place)}{piece}" for word in words for place, piece in enumerate(word)]
    assert uniter_texts.joined(pieces) == " ".join("".join(word) for word in words)


def test_what_was_exported_is_imported_again(shards: Path, vocabulary: Path, tmp_path: Path) -> None:
    run("export", shards, "--as", "uniter-txt", "--vocab", vocabulary, "--out", tmp_path / "texts")
    run("export", shards, "--as", "webdataset", "--out", tmp_path / "tars")
    found = captions.read(tmp_path / "texts/val")
    assert [text for text, _ in found.of("val2014/COCO_000009")[0]] == TEXTS[:1]
    assert [text for text, _ in found.of("val2014/COCO_000010")[0]] == TEXTS[:2]


def test_features_and_texts_of_uniter_become_pairs(tmp_path: Path) -> None:
    pictures = records(4)
    made.write("uniter-lmdb", tmp_path / "in", pictures)
    texts = {
        str(number): {"toked_caption": ["a", "dog"], "img_fname": f"coco_train2014_{number:012d}.npz"}
        for number in range(1, 5)
    }
    said = run(
        "import", tmp_path / "in", "--as", "uniter-lmdb", "--captions", write(tmp_path / "db", texts), "--out",
        tmp_path / "data",
    )  # fmt: skip
    assert (said["images"], said["captions"], said["rejected"]) == (4, 4, {})

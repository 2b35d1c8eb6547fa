"""UNITER's text database (ChenRocks/UNITER, data/data.py): an LMDB folder of captions as pieces of words.

A value is msgpack in an LZ4 frame: input_ids, img_fname (KEY.npz, the picture's key in the database of features),
toked_caption, and what the captions' file said of it, such as caption (COCO), raw (Karpathy's JSON) or sent. In
toked_caption a piece that goes on a word begins with @@, so that the text can be put together again. Beside the
database: id2len.json (pieces of each text), txt2img.json (id to img_fname), img2txts.json (the reverse), meta.json
(the numbers of UNK, CLS, SEP, MASK, and v_range, where ordinary pieces begin and end).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgpack
import pyarrow as pa

from formats.features.databases import opened
from pairloom.errors import InputError

INSIDE = "@@"  # begins a piece that goes on a word
TEXTS = ("raw", "caption", "sent", "sentence")  # fields of the captions as they were
CODEC = "lz4"  # pyarrow's name of the frame format
COPY = "take the database from a copy"
FIX = "name a database of captions, such as pretrain_coco_train_….db"


def packed(content: Mapping[str, Any]) -> bytes:
    """A value of the database."""
    found: bytes = pa.compress(msgpack.packb(content, use_bin_type=True), CODEC, asbytes=True)
    return found


def unpacked(value: bytes | memoryview) -> dict[str, Any]:
    """What a value holds. Raises ValueError where it is damaged."""
    try:
        with pa.CompressedInputStream(pa.py_buffer(value), CODEC) as stream:
            content: dict[str, Any] = msgpack.unpackb(stream.read(), raw=False, strict_map_key=False)
    except (OSError, pa.ArrowException, msgpack.UnpackException) as error:
        raise ValueError(f"it is not msgpack in an LZ4 frame: {error}") from error
    return content


def entries(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(id, content) of each text, in the order of txt2img.json where that is there. Raises InputError for damage."""
    order = path / "txt2img.json"
    listed = json.loads(order.read_text(encoding="utf-8")) if order.is_file() else None
    with opened(path) as environment, environment.begin(buffers=True) as transaction:
        found = ((key.encode(), transaction.get(key.encode())) for key in listed) if listed else transaction.cursor()
        for name, value in found:
            key = bytes(name).decode("utf-8", errors="backslashreplace")
            if value is None:
                raise InputError(f"txt2img.json names the text {key!r}, the database lacks it", str(path), COPY)
            try:
                content = unpacked(value)
            except ValueError as error:
                raise InputError(f"the text {key!r} can't be read: {error}", str(path), COPY) from error
            yield key, content


def captions(path: Path) -> Iterator[tuple[str, str]]:
    """(key of the picture's file, caption). Raises InputError where texts are no captions, or of several pictures."""
    for key, content in entries(path):
        file, text = content.get("img_fname"), text_of(content)
        if not isinstance(file, str):
            what = f"the text {key!r} belongs to {len(file)} pictures" if file else f"the text {key!r} has no img_fname"
            raise InputError(what, str(path), FIX)
        if text is None:
            what = f"the text {key!r} is no caption; it has {', '.join(sorted(map(str, content)))}"
            raise InputError(what, str(path), FIX)
        yield file, text


def text_of(content: Mapping[str, Any]) -> str | None:
    """The caption as it was, else put together from its pieces."""
    whole = next((content[name] for name in TEXTS if isinstance(content.get(name), str)), None)
    pieces = content.get("toked_caption")
    return joined(pieces) if whole is None and pieces is not None else whole


def joined(pieces: Sequence[str]) -> str:
    """The words of these pieces, with a space between."""
    words: list[str] = []
    for piece in pieces:
        if piece.startswith(INSIDE) and words:
            words[-1] += piece.removeprefix(INSIDE).removeprefix("##")
        else:
            words.append(piece)
    return " ".join(words)

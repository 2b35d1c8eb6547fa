"""Lint, part 3: the rules of the other tables: pictures, captions, tags, negatives, splits, reasons, urls."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, UnidentifiedImageError

from inspection.columns import Numbers, flat_list, ids, struct_field
from inspection.lint.shard import Shard
from schemas.quarantine import REASONS


def check_pictures(shard: Shard, images: pa.ChunkedArray) -> None:
    """image_id is the hash of the bytes, and the picture's own header says what the columns say.

    A pair that came with its features alone has no picture, and nothing of it is checked here.
    """
    table = shard.table.select(["image_id", "format", "width", "height"]).to_pylist()
    names: list[tuple[int, str]] = []
    headers: list[tuple[int, str]] = []
    for row, (image, columns) in enumerate(zip(images, table, strict=True)):
        data = memoryview(image.as_buffer() or b"")
        if not data:
            continue
        digest = hashlib.sha256(data).digest()[:16]
        if digest != columns["image_id"]:
            names.append((row, f"image_id is {columns['image_id'].hex()}, the image's bytes give {digest.hex()}"))
        found = _header(data)
        if found != (columns["format"], columns["width"], columns["height"]):
            what = f"format, width and height are {columns['format']} {columns['width']} × {columns['height']}"
            headers.append((row, f"{what}, the image itself is {_said(found)}"))
    shard.findings.named("image-id", shard.file, names)
    shard.findings.named("image", shard.file, headers)


def _header(data: memoryview) -> tuple[str, int, int] | None:
    """(format, width, height) as the picture's header says; None if it is none."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as image:
            return (image.format or "").lower(), image.width, image.height
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _said(found: tuple[str, int, int] | None) -> str:
    return f"{found[0]} {found[1]} × {found[2]}" if found else "not one that can be opened"


def check_captions(shard: Shard) -> None:
    captions, rows = flat_list(shard.table["captions"])
    without = np.flatnonzero(np.bincount(rows, minlength=shard.table.num_rows) == 0)
    shard.bad("empty", without, lambda _: "the image has no caption")
    shard.texts("captions", captions, rows)


def check_texts(shard: Shard) -> None:
    empty = pc.equal(pc.utf8_trim_whitespace(shard.table["text"]), "")
    shard.bad("empty", pc.indices_nonzero(empty).to_numpy(), lambda _: "the text is empty")


def check_tags(shard: Shard) -> None:
    tags, rows = flat_list(shard.table["tags"])
    scores = struct_field(tags, "score")
    shard.in_range("tags.score", scores, rows, 0, 1)
    shard.descending("tags.score", scores, rows, rows)
    shard.texts("tags", tags, rows)


def check_negatives(shard: Shard) -> None:
    """Most similar first, none of the image itself, and one list and one `short` for each caption."""
    _check_told(shard, "negatives", most=1)
    lengths = [pc.list_value_length(shard.table[name]).to_numpy() for name in ("negatives", "short")]
    wrong = np.flatnonzero(lengths[0] != lengths[1])
    shard.bad(
        "length", wrong, lambda i: f"negatives has {lengths[0][wrong[i]]} captions, short has {lengths[1][wrong[i]]}"
    )


def check_similar(shard: Shard) -> None:
    """The same of similar captions, where they are joined. BM25's similarity may be above 1."""
    if not shard.table["similar"].null_count:
        _check_told(shard, "similar", most=np.inf)


def check_questions(shard: Shard) -> None:
    """No empty question; answers with a text and a score from 0 to 1, best first."""
    column = shard.table["qa"].combine_chunks()
    if column.null_count:
        return  # the table was not joined
    questions, rows = flat_list(column)
    shard.texts("qa", questions, rows)
    answers, owners = flat_list(pc.struct_field(questions, "answers"))
    scores = struct_field(answers, "score")
    shard.in_range("qa.answers.score", scores, rows[owners], 0, 1)
    shard.descending("qa.answers.score", scores, owners, rows[owners])
    shard.texts("qa.answers", answers, rows[owners])


def _check_told(shard: Shard, name: str, most: float) -> None:
    """Other images' captions: most similar first, up to `most`, none of the image itself, one list for each caption."""
    column = shard.table[name].combine_chunks()
    others, rows = flat_list(column)
    inner = pc.list_flatten(column)
    caption = np.repeat(np.arange(len(inner)), pc.list_value_length(inner).to_numpy())
    similarity = struct_field(others, "similarity")
    shard.in_range(f"{name}.similarity", similarity, rows, 0, most)
    shard.descending(f"{name}.similarity", similarity, caption, rows)
    shard.texts(name, others, rows)
    own = np.flatnonzero(ids(pc.struct_field(others, "image_id")) == ids(shard.table["image_id"])[rows])
    shard.bad("reference", rows[own], lambda _: f"one of {name} is a caption of the image itself")
    if "captions" in shard.table.column_names:
        lengths, captions = (pc.list_value_length(shard.table[each]).to_numpy() for each in (name, "captions"))
        bad = np.flatnonzero(lengths != captions)
        shard.bad("length", bad, lambda i: f"{name} of {lengths[bad[i]]} captions, the image has {captions[bad[i]]}")


def check_split(shard: Shard) -> None:
    splits, wanted = shard.table["split"].to_pylist(), shard.file.stem.split("-")[0]
    bad = _numbers([row for row, split in enumerate(splits) if split != wanted])
    shard.bad("split", bad, lambda i: f"split is {splits[bad[i]]!r} in a shard of {wanted!r}")


def check_reasons(shard: Shard) -> None:
    """Known reasons, the folder's own stage, at least one attempt, and the input row as JSON."""
    table, stage = shard.table, shard.file.parent.name
    reasons, stages, inputs = (table[name].to_pylist() for name in ("reason", "stage", "row"))
    unknown = _numbers([row for row, reason in enumerate(reasons) if reason not in REASONS])
    shard.bad("reason", unknown, lambda i: f"reason {reasons[unknown[i]]!r} is not in schemas.quarantine.REASONS")
    strange = _numbers([row for row, name in enumerate(stages) if name != stage])
    shard.bad("reference", strange, lambda i: f"stage is {stages[strange[i]]!r} in the quarantine of {stage!r}")
    shard.in_range("attempts", table["attempts"].to_numpy(), np.arange(table.num_rows), 1, 2**31)
    broken = _numbers([row for row, text in enumerate(inputs) if not _is_json(text)])
    shard.bad("json", broken, lambda i: f"row is not JSON: {inputs[broken[i]][:60]!r}")


def check_urls(shard: Shard) -> None:
    empty = np.flatnonzero(pc.equal(shard.table["url"], "").to_numpy(zero_copy_only=False))
    shard.bad("empty", empty, lambda _: "url is empty")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True


def _numbers(rows: Sequence[int]) -> Numbers:
    return np.array(rows, np.int64)

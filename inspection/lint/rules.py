"""Lint, part 3: the rules of the other tables: pictures, questions, splits, reasons, addresses."""

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

from formats.pictures.linked import SOURCES, missing
from inspection.columns import Numbers, flat_list, struct_field
from inspection.lint.shard import Shard
from pairloom.errors import StoreError
from pairloom.pictures import jpeg_damage
from schemas.quarantine import REASONS

KEPT = ".index/kept"  # where a dataset keeps the indexes of tars
DECODED = 20_000  # pictures of a table, of which JPEGs are decoded to their end, 1 ms each
# The last bytes of a picture: the marker EOI, the chunk IEND. Download stores none without.
ENDS = {"jpeg": b"\xff\xd9", "png": b"\0\0\0\0IEND\xaeB`\x82"}


def check_pictures(shard: Shard, images: pa.ChunkedArray) -> None:
    """image_id is the hash of the bytes, and the picture's own header says what the columns say.

    A pair that came with its features alone has no picture, and nothing of it is checked here. A JPEG may be broken in
    its middle, which only decoding tells: of a large table a share of them is decoded.
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
        elif not _ends(data, columns["format"]):
            headers.append((row, f"the picture is cut off: its {len(data):,} bytes do not end as a {found[0]} does"))
        elif found[0] == "jpeg" and chosen(digest, shard.decoded) and (damage := jpeg_damage(bytes(data))) is not None:
            headers.append((row, f"the picture's data is damaged: {damage}"))
    shard.findings.named("image-id", shard.file, names)
    shard.findings.named("image", shard.file, headers)


def chosen(image_id: bytes, every: int) -> bool:
    """Whether an image is one of the share that is decoded: the same ones in every table and every shard."""
    return int.from_bytes(image_id[:8], "big") % every == 0


def _header(data: memoryview) -> tuple[str, int, int] | None:
    """(format, width, height) as the picture's header says. None if it is none."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as image:
            return (image.format or "").lower(), image.width, image.height
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _ends(data: memoryview, kind: str) -> bool:
    """Whether a picture is there to its end, by the end itself: decoding each would take a hundred times as long."""
    if kind == "webp":
        return len(data) >= 12 and int.from_bytes(data[4:8], "little") + 8 <= len(data)
    return bytes(data[-len(ENDS[kind]) :]) == ENDS[kind] if kind in ENDS else True


def _said(found: tuple[str, int, int] | None) -> str:
    return f"{found[0]} {found[1]} × {found[2]}" if found else "not one that can be opened"


def check_links(shard: Shard) -> None:
    """Linked pictures are where they were, as long as they were. Their bytes are compared by the stages that read."""
    folder = shard.file.parent
    try:
        lost = list(missing(shard.table, folder, folder.parent / KEPT))
    except StoreError as error:
        shard.findings.file("link", shard.file, error.args[0], error.args[2])
        return
    whats = [f"its linked picture is lost: {error.detail}" for _, error in lost]
    fix = f"put it back, or correct where its source lies in {folder.parent / SOURCES}"
    shard.findings.rows("link", shard.file, [row for row, _ in lost], lambda i: whats[i], fix)


def check_texts(shard: Shard) -> None:
    empty = pc.equal(pc.utf8_trim_whitespace(shard.table["text"]), "")
    shard.bad("empty", pc.indices_nonzero(empty).to_numpy(), lambda _: "the text is empty")


def check_questions(shard: Shard) -> None:
    """No empty question. Answers with a text and a score above 0 to 1, best first."""
    column = shard.table["qa"].combine_chunks()
    if column.null_count:
        return  # the table was not joined
    questions, rows = flat_list(column)
    shard.texts("qa", questions, rows)
    answers, owners = flat_list(pc.struct_field(questions, "answers"))
    scores = struct_field(answers, "score")
    shard.in_range("qa.answers.score", scores, rows[owners], np.nextafter(np.float32(0), np.float32(1)), 1)
    shard.descending("qa.answers.score", scores, owners, rows[owners])
    shard.texts("qa.answers", answers, rows[owners])


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


def check_sources(shard: Shard) -> None:
    """An address has a scheme, a hash is not all zeros."""
    urls = shard.table["url"]
    bad = pc.indices_nonzero(pc.invert(pc.match_substring_regex(urls, r"^[A-Za-z][A-Za-z0-9+.-]*:\S"))).to_numpy()
    shard.bad("url", bad, lambda i: f"url is {urls[int(bad[i])].as_py()[:60]!r}, which is no address")
    zeros = pc.indices_nonzero(pc.equal(shard.table["sha256"], pa.scalar(bytes(32), pa.binary(32)))).to_numpy()
    shard.bad("hash", zeros, lambda _: "sha256 is all zeros")


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

"""Pictures of other colours are no near duplicates. The same picture, stored otherwise, is one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageDraw, ImageEnhance

from pairloom.phash import phash
from stages.curate.colours import KIND, WIDTH, colours, stacked
from tests.stages.curate.test_curate import Row, reasons, row, run
from tests.stages.download.hostile import scene

RED, BLUE, YELLOW = (200, 60, 60), (60, 105, 230), (160, 110, 10)


def photo(seed: int) -> Image.Image:
    """A picture of soft shapes, as a photograph out of focus."""
    return Image.fromarray(scene(240, 180, seed)).convert("RGB")


def with_object(seed: int, colour: tuple[int, int, int], share: float = 0.05) -> Image.Image:
    """The picture with an object of one colour, on that share of it."""
    image = photo(seed)
    side = (share * image.width * image.height) ** 0.5
    rng = np.random.default_rng(seed)
    left, top = rng.uniform(0, image.width - side), rng.uniform(0, image.height - side)
    ImageDraw.Draw(image).ellipse([left, top, left + side * 1.13, top + side * 1.13], fill=colour)
    return image


def stored(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(content: bytes, number: int, **changes: Any) -> Row:
    """The row that `download` would write of it."""
    digest = hashlib.sha256(content).digest()
    looks = phash(Image.open(BytesIO(content)))
    changes = {"image": content, "image_id": digest[:16], "sha256": digest, "phash": looks, **changes}
    return row(number % 200, f"caption {number}", number=number, **changes)


def whole_rows(rejects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the captions that went with them."""
    return [row for row in rejects if row["reason"] != "caption-lost"]


def left_out(folder: Path, contents: list[bytes], **settings: Any) -> list[str]:
    rows = [picture(content, number) for number, content in enumerate(contents)]
    folder.mkdir(exist_ok=True)
    [(kept, rejects)] = run(folder, [rows], **{"max_distance": 4, **settings})
    rejects = whole_rows(rejects)
    assert len(kept) + len(rejects) == len(rows)
    return reasons(rejects)


def twins(count: int, share: float) -> list[tuple[bytes, bytes]]:
    """Pairs that differ in the colour of one object and are near by their hashes."""
    found = []
    for seed in range(10 * count):
        one, other = (stored(with_object(seed, colour, share)) for colour in (RED, BLUE))
        if (phash(Image.open(BytesIO(one))) ^ phash(Image.open(BytesIO(other)))).bit_count() <= 4:
            found.append((one, other))
    return found[:count]


@pytest.mark.parametrize("share", [0.03, 0.1, 0.4])
def test_an_object_of_another_colour_makes_another_picture(tmp_path: Path, share: float) -> None:
    pairs = twins(25, share)
    assert len(pairs) == 25
    contents = [content for pair in pairs for content in pair]
    by_hash = left_out(tmp_path / "hash", contents, max_colour_distance=None)
    assert by_hash.count("near-duplicate") >= 25  # what a hash of grey alone does
    # Some of these scenes are near each other besides. No twin is.
    for number, pair in enumerate(pairs):
        assert left_out(tmp_path / str(number), list(pair)) == []


EDITS: dict[str, Callable[[Image.Image], bytes]] = {
    "quality 20": lambda image: stored(image, quality=20),
    "png": lambda image: stored(image, "PNG"),
    "webp": lambda image: stored(image, "WEBP", quality=60),
    "half the size": lambda image: stored(image.resize((120, 90))),
    "twice the size": lambda image: stored(image.resize((480, 360))),
    "brighter": lambda image: stored(ImageEnhance.Brightness(image).enhance(1.05)),
    "darker": lambda image: stored(ImageEnhance.Brightness(image).enhance(0.85)),
    "more saturated": lambda image: stored(ImageEnhance.Color(image).enhance(1.2)),
    "subsampled": lambda image: stored(image, subsampling=2, quality=70),
}


@pytest.mark.parametrize("edit", EDITS)
def test_the_same_picture_stored_otherwise_is_a_near_duplicate(edit: str, tmp_path: Path) -> None:
    for seed in range(10):
        image = with_object(seed, YELLOW, 0.05)
        assert left_out(tmp_path, [stored(image), EDITS[edit](image)]) == ["near-duplicate"]


def test_of_three_twins_each_later_copy_goes_to_its_own(tmp_path: Path) -> None:
    red, blue = twins(1, 0.1)[0]
    copies = [stored(Image.open(BytesIO(content)), quality=60) for content in (red, blue)]
    rows = [picture(content, number) for number, content in enumerate([red, blue, *reversed(copies)])]
    [(kept, rejects)] = run(tmp_path, [rows], max_distance=4)
    assert [item["url"] for item in kept] == [rows[0]["url"], rows[1]["url"]]
    assert [reject["detail"].split(",")[0] for reject in whole_rows(rejects)] == [
        f"of {rows[1]['image_id'].hex()}",
        f"of {rows[0]['image_id'].hex()}",
    ]


def test_rows_added_later_change_no_earlier_shard(tmp_path: Path) -> None:
    pairs = twins(3, 0.1)
    first = [picture(content, number) for number, content in enumerate(content for pair in pairs for content in pair)]
    more = [picture(stored(Image.open(BytesIO(pair[1])), quality=50), 100 + n) for n, pair in enumerate(pairs)]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    before = run(tmp_path / "a", [first], max_distance=4)
    after = run(tmp_path / "b", [first, more], max_distance=4)
    assert after[:1] == before
    assert reasons(whole_rows(after[1][1])) == ["near-duplicate"] * 3


def test_where_a_picture_cannot_be_decoded_the_hash_decides(tmp_path: Path) -> None:
    red, blue = twins(1, 0.1)[0]
    rows = [picture(red, 0), picture(blue, 1, image=blue[:40])]
    [(_, rejects)] = run(tmp_path, [rows], max_distance=4)
    assert reasons(whole_rows(rejects)) == ["near-duplicate"]


def test_grey_has_no_colour_and_nothing_is_no_picture() -> None:
    grey = colours(stored(photo(1).convert("L")))
    assert grey is not None
    assert grey.tolist() == [128] * WIDTH
    assert colours(b"no picture") is None
    places, rows = stacked(pa.chunked_array([pa.array([None, grey.tobytes(), None], KIND)]))
    assert places.tolist() == [-1, 0, -1]
    assert rows.shape == (1, WIDTH)


def test_each_cell_has_its_own_colour() -> None:
    image = Image.new("RGB", (64, 64), (128, 128, 128))
    ImageDraw.Draw(image).rectangle([56, 0, 63, 7], fill=(255, 0, 0))  # the upper right cell
    found = colours(stored(image, "PNG"))
    assert found is not None
    cells = found.reshape(8, 8, 2)
    assert cells[0, 7].tolist() == [84, 255]  # Cb and Cr of red (JFIF)
    assert (np.delete(cells.reshape(64, 2), 7, axis=0) == 128).all()

"""Faults that only a rule finds: sound files, of the right schema, that say what can't be. One planted, one found."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from inspection.lint import leaks, lint, told
from inspection.lint.languages import TWO_LETTERS, is_language
from inspection.lint.near import Bands, Rows
from inspection.lint.region_checks import BY_BEST_CLASS
from pairloom.store import index
from pairloom.store.folder import MANIFEST, open_folder
from pairloom.store.writing import write_index
from stages.curate.colours import colours
from stages.regions.select import POLICIES
from tests.inspection.synthetic import FLOW, WIDTH, edit, edit_blob, rewrite

Change = Callable[[pa.Table], pa.Table]
ROW = 3


def first(**changes: Any) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    return lambda items: [items[0] | changes, *items[1:]]


def second(**changes: Any) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    return lambda items: [items[0], items[1] | changes, *items[2:]]


def of_kinds(*kinds: str) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    return lambda items: [item | {"kind": kind} for item, kind in zip(items, (*kinds, *kinds), strict=False)]


def deep(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Callable[[list[Any]], list[Any]]:
    """A change of the list of the first caption."""
    return lambda lists: [change(lists[0]), *lists[1:]]


def blob(column: str, dtype: str, change: Callable[[Any], Any]) -> Change:
    return edit(column, ROW, lambda value: np.asarray(change(np.frombuffer(value, dtype).copy()), dtype).tobytes())


def both(*changes: Change) -> Change:
    def apply(table: pa.Table) -> pa.Table:
        for change in changes:
            table = change(table)
        return table

    return apply


def no_area(boxes: Any) -> Any:
    boxes[2] = boxes[0]
    return boxes


def first_region(value: float) -> Callable[[Any], Any]:
    return lambda numbers: np.concatenate([np.full(WIDTH, value), numbers[WIDTH:]])


def all_but_one(table: pa.Table) -> pa.Table:
    """As if similar captions had been joined to the other rows."""
    place = table.schema.get_field_index("similar")
    lists: list[list[list[str]] | None] = [None if row == ROW else [[]] * 4 for row in range(table.num_rows)]
    return table.set_column(place, table.schema.field(place), pa.array(lists, table.schema.field(place).type))


def cut(image: bytes) -> bytes:
    return image[: len(image) // 2]


def broken(image: bytes) -> bytes:
    """In the middle of its data. Its header and its end are whole."""
    middle = len(image) // 2
    return image[:middle] + bytes(60) + image[middle + 60 :]


def of_other_name(change: Callable[[bytes], bytes]) -> Change:
    """A picture changed along with all that is made of its bytes, so that only the picture itself tells."""

    def apply(table: pa.Table) -> pa.Table:
        image = change(table["image"][ROW].as_py())
        digest = hashlib.sha256(image).digest()
        return both(edit("image", ROW, lambda _: image), edit("image_id", ROW, lambda _: digest[:16]))(table)

    return apply


FAULTS: dict[str, tuple[str, str, Change]] = {
    # what → (stage, the check that finds it, the change in row 3 of its first shard)
    "similarity at the ceiling": ("negatives", "ceiling", edit("negatives", ROW, deep(first(similarity=0.5)))),
    "similarity at the ceiling in a training row": (
        "shards", "ceiling", edit("negatives", ROW, deep(first(similarity=0.75)))),
    "similarity of nothing": ("negatives", "floor", edit("negatives", ROW, deep(second(similarity=0.0)))),
    "a negative twice": ("negatives", "doubled", edit("negatives", ROW, deep(lambda told: [told[0], told[0]]))),
    "a negative twice in a training row": (
        "shards", "doubled", edit("negatives", ROW, deep(lambda told: [told[0], told[1] | {
            "image_id": told[0]["image_id"], "caption_index": told[0]["caption_index"]}]))),
    "similar caption twice": ("similar", "doubled", edit("similar", ROW, deep(lambda told: [told[0], told[0]]))),
    "short that does not fill up": ("negatives", "short", edit("short", ROW, lambda short: [60000, *short[1:]])),
    "short of a training row": ("shards", "short", edit("short", ROW, lambda short: [0, *short[1:]])),
    "boxes from 0 to 1": ("regions", "box", blob("boxes", "<f4", lambda boxes: boxes / 160)),
    "boxes from 0 to 1 in a training row": ("shards", "box", blob("boxes", "<f4", lambda boxes: boxes / 160)),
    "box without area": ("regions", "box", blob("boxes", "<f4", no_area)),
    "features of zeros": ("regions", "zeros", blob("features", "<f2", first_region(0))),
    "features of zeros in a training row": ("shards", "zeros", blob("features", "<f2", first_region(0))),
    "features of another image": ("shards", "joined", blob("features", "<f2", lambda numbers: numbers[::-1])),
    "boxes of another image": ("shards", "joined", blob("boxes", "<f4", lambda boxes: boxes + 1)),
    "probabilities of 8 together": (
        "regions", "sum", blob("prob_values", "<f2", lambda numbers: [0.9, 0.9, 0.9, *numbers[3:]])),
    "probabilities and background of more than 1": (
        "regions", "sum", edit_blob("prob_background", ROW, "<f4", 0, 0.4)),
    "background of 2": ("regions", "range", edit_blob("prob_background", ROW, "<f4", 0, 2)),
    "a class twice among the probable": (
        "regions", "doubled", blob("prob_ids", "<u2", lambda ids: [ids[0], ids[0], *ids[2:]])),
    "class that is not the best": ("shards", "class", blob("class_ids", "<u2", lambda ids: [ids[1], ids[0]])),
    "kind in other letters": ("curate", "kind", edit("captions", ROW, of_kinds("alt", "alt ", "Alt"))),
    "blank kind": ("shards", "kind", edit("captions", ROW, first(kind=" "))),
    "blank caption": ("curate", "empty", edit("captions", ROW, first(text=" \u00a0\t"))),
    "doubled caption": ("curate", "doubled", edit("captions", ROW, lambda told: [*told, told[1]])),
    "control character": ("shards", "control", edit("captions", ROW, first(text="a \x00dog"))),
    "unknown language": ("curate", "language", edit("captions", ROW, first(lang="xx"))),
    "language that is no code": ("shards", "language", edit("captions", ROW, first(lang="en_US"))),
    "tag with another text": ("tags", "text", edit("tags", ROW, first(text="xed square"))),
    "tag with another text in a training row": ("shards", "text", edit("tags", ROW, first(text="xed square"))),
    "tag with an attribute that its region has not": ("tags", "reference", edit("tags", ROW, first(attribute_id=77))),
    "tag that starts elsewhere": ("tags", "start", edit("tags", ROW, second(start=3))),
    "tag of no region": ("tags", "range", edit("tags", ROW, first(count=0))),
    "url without a scheme": ("curate", "url", edit("url", ROW, lambda _: "not an address")),
    "hash of zeros": ("shards", "hash", edit("sha256", ROW, lambda _: bytes(32))),
    "answer of no score": ("qa", "range", edit("qa", ROW, first(answers=[{"text": "a", "score": 0.0}]))),
    "picture that is cut off": ("shards", "image", of_other_name(cut)),
    "picture with a broken middle": ("shards", "image", of_other_name(broken)),
    "value that only one row lacks": ("regions", "null", edit("prob_background", ROW, lambda _: None)),
    "similar captions that only one row lacks": ("shards", "null", all_but_one),
}  # fmt: skip


@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_is_found_with_file_and_row(data: Path, what: str) -> None:
    stage, check, change = FAULTS[what]
    name = "train-00000" if stage == "shards" else "00000"
    rewrite(data / stage, name, change)
    found = lint(data, FLOW)
    assert (str(data / stage / f"{name}.parquet"), ROW) in {
        (one.file, one.row) for one in found if one.check == check
    }, found
    assert all(one.fix for one in found)
    assert not any("-9,223,372" in one.what for one in found)


ALONE = [what for what, (stage, check, _) in FAULTS.items() if stage == "shards" and check not in ("ceiling", "joined")]


@pytest.mark.parametrize("what", ALONE)
def test_a_fault_of_a_training_row_is_found_in_its_folder_alone(data: Path, what: str) -> None:
    _, check, change = FAULTS[what]
    rewrite(data / "shards", "train-00000", change)
    assert (check, ROW) in {(one.check, one.row) for one in lint(data / "shards", FLOW)}


@pytest.mark.parametrize("kind", ["png", "webp", "jpeg"])
def test_a_picture_of_each_format_is_found_when_it_is_cut_off_and_only_then(data: Path, kind: str) -> None:
    def as_(image: bytes) -> bytes:
        sink = io.BytesIO()
        Image.open(io.BytesIO(image)).save(sink, kind)
        return sink.getvalue()

    rewrite(data / "shards", "train-00000", both(of_other_name(as_), edit("format", ROW, lambda _: kind)))
    assert "image" not in {one.check for one in lint(data / "shards", FLOW)}
    rewrite(data / "shards", "train-00000", of_other_name(lambda image: image[:-5]))
    assert ("image", ROW) in {(one.check, one.row) for one in lint(data / "shards", FLOW)}


def test_raw_captions_are_left_alone(data: Path) -> None:
    rewrite(data / "download", "00000", edit("captions", ROW, first(text="a \x00dog", lang="xx")))
    assert lint(data / "download", FLOW) == []


def test_other_words_for_classes_are_no_fault(data: Path) -> None:
    """tags.mapping: in the table of tags the settings say so, in shards each class has one word."""

    def renamed(table: pa.Table) -> pa.Table:
        def change(tags: list[dict[str, Any]]) -> list[dict[str, Any]]:
            words = {"red square": "red box", "blue square": "blue cube"}  # starts change by the first alone
            given, starts = [words.get(tag["text"], tag["text"]) for tag in tags], [0]
            for text in given:
                starts.append(starts[-1] + len(text) + 1)
            return [tag | {"text": t, "start": s} for tag, t, s in zip(tags, given, starts, strict=False)]

        for row in range(table.num_rows):
            table = edit("tags", row, change)(table)
        return table

    for name in ("train-00000", "val-00000"):
        rewrite(data / "shards", name, renamed)
    assert lint(data / "shards", FLOW) == []


def test_a_damaged_or_stale_index_is_found_and_its_cure_names_the_folder(data: Path) -> None:
    shards = data / "shards"
    names = [entry.name for entry in open_folder(shards).shards]
    for entry in open_folder(shards).shards:
        write_index(shards, entry.name, entry.sha256)
    assert lint(data, FLOW) == []
    paths = [shards / index.name_of(name) for name in names]
    paths[0].write_bytes(paths[0].read_bytes()[:-40])
    paths[1].write_bytes(b"")
    found = lint(data, FLOW)
    assert [(one.check, one.file) for one in found] == [("index", str(path)) for path in paths]
    assert {one.fix for one in found} == {f"run `pairloom shards index {shards}`"}
    write_index(shards, names[0], "0" * 64, compared=True)  # as of other bytes
    assert [one.check for one in lint(shards, FLOW)] == ["index", "index"]


def test_bytes_that_the_manifest_has_wrong_are_found(data: Path) -> None:
    manifest = json.loads((data / "tags" / MANIFEST).read_text())
    manifest["shards"][1]["bytes"] += 1
    (data / "tags" / MANIFEST).write_text(json.dumps(manifest))
    assert [(one.check, Path(one.file).name) for one in lint(data, FLOW)] == [("bytes", "00001.parquet")]


def hashed(data: Path, change: dict[bytes, int]) -> None:
    """Give images these perceptual hashes."""

    def apply(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index("phash")
        rows = zip(table["image_id"].to_pylist(), table["phash"].to_pylist(), strict=True)
        new = pa.array([change.get(one, value) for one, value in rows], pa.uint64())
        return table.set_column(place, table.schema.field(place), new)

    for entry in open_folder(data / "curate").shards:
        rewrite(data / "curate", entry.name, apply)


def test_a_picture_in_val_that_looks_like_one_in_train_is_found(data: Path) -> None:
    shards, pairs = open_folder(data / "shards"), open_folder(data / "curate")
    known = {
        row["image_id"]: row["phash"] for _, table in pairs.tables(["image_id", "phash"]) for row in table.to_pylist()
    }
    held_out, trained = (shards.read(name)["image_id"].to_pylist() for name in ("val-00000", "train-00000"))
    hashed(data, {held_out[1]: known[trained[2]] ^ 0b1011})
    (found,) = lint(data, FLOW)
    assert (found.check, found.row, Path(found.file).name) == ("leak", 1, "val-00000.parquet")
    assert trained[2].hex() in found.what
    hashed(data, {held_out[1]: known[trained[2]] ^ 0b11111})
    assert lint(data, FLOW) == []


def test_colours_are_compared_as_curate_compares_them(good: Path) -> None:
    folder = open_folder(good / "shards")
    images = folder.read("val-00000")["image"].to_pylist()
    wanted = [np.asarray(colours(image), np.float64).reshape(-1, 2) for image in images]
    rows = [Rows(np.array([b""]), np.zeros(1), np.array([1]), np.array([row]))[0] for row in range(len(images))]
    for i, one in enumerate(wanted):
        for j, other in enumerate(wanted):
            farthest = float(np.sqrt(np.square(one - other).sum(axis=1).max()))
            for most in (max(farthest - 0.01, 0), farthest + 0.01):
                near = leaks._same_colours(folder, rows[i], rows[j], {"max_colour_distance": most})
                assert near == (farthest <= most)


WORDS = st.integers(0, 2**64 - 1)


@given(some=st.lists(WORDS, max_size=12), bits=st.lists(st.lists(st.integers(0, 63), max_size=7), max_size=12),
       distance=st.integers(0, 6))  # fmt: skip
def test_near_hashes_are_those_of_brute_force(some: list[int], bits: list[list[int]], distance: int) -> None:
    flips = [sum(1 << bit for bit in set(each)) for each in bits]
    others = [value ^ flip for value, flip in zip(some, flips, strict=False)] + flips
    parts = Bands(np.array(others, np.uint64), distance).pairs(np.array(some, np.uint64))
    found = {pair for one, other in parts for pair in zip(one.tolist(), other.tolist(), strict=True)}
    assert found == {
        (i, j) for i, a in enumerate(some) for j, b in enumerate(others) if (a ^ b).bit_count() <= distance
    }


@given(st.lists(st.tuples(st.integers(0, 3), st.binary(min_size=1, max_size=1), st.integers(0, 2)), max_size=20))
def test_what_comes_twice_in_a_list_is_what_was_there_before(rows: list[tuple[int, bytes, int]]) -> None:
    rows.sort(key=lambda row: row[0])
    captions = np.array([row[0] for row in rows], np.int64)
    images = np.array([row[1].ljust(16, b"\0") for row in rows], "S16")
    indices = np.array([row[2] for row in rows], np.uint64)
    assert told._again(captions, images, indices).tolist() == [n for n, row in enumerate(rows) if row in rows[:n]]


def test_selections_by_best_class_are_those_of_one_nms_over_all_classes() -> None:
    rules = {name for name, policy in POLICIES.items() if policy.rule in ("agnostic", "stepped")}
    assert set(BY_BEST_CLASS) == rules


@pytest.mark.parametrize(
    ("code", "known"),
    [("en", True), ("de-CH", True), ("zh-Hant-TW", True), ("yue", True), ("sr-Latn", True), ("de-1996", True),
     ("en-x-simple", True), ("EN", True), ("xx", False), ("", False), ("en_US", False), ("english", False),
     ("e", False), ("en-", False), ("en US", False), ("zh-cmn-Hans", True)],
)  # fmt: skip
def test_codes_of_languages(code: str, known: bool) -> None:
    assert is_language(code) == known


def test_the_languages_that_py3langid_knows_are_known() -> None:
    from py3langid.langid import rank

    known = {language for language, _ in rank("a dog")}
    assert len(known) > 90
    assert {code for code in known if not is_language(code)} == set()
    assert len(TWO_LETTERS) == 184 + 6

"""Rows out of tables in memory and out of plans, against plain Python and against what was dealt before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.lists import BadRow, Part
from formats.lists.stream import ListStream
from pairloom.errors import InputError
from pairloom.store import tombstones
from pipeline.forget import rows
from pipeline.forget.wanted import Wanted, read
from pipeline.forgotten import Remembered
from schemas.negatives import NEGATIVE, NEGATIVES
from schemas.neighbours import NEIGHBOURS
from stages import dealing
from stages.contract import Window
from stages.split import SPLITS
from tests.pipeline.helpers import table_of

IMAGES = [bytes([number]) * 16 for number in range(6)]
ONE = st.fixed_dictionaries(
    {
        "image_id": st.sampled_from(IMAGES),
        "caption_index": st.integers(0, 3),
        "text": st.sampled_from(["a dog", "a cat"]),
        "similarity": st.sampled_from([0.25, 0.5]),
    }
)
LISTS = st.lists(st.lists(st.lists(ONE, max_size=4), max_size=3), max_size=6)


@given(lists=LISTS, gone=st.sets(st.sampled_from(IMAGES)), start=st.integers(0, 2))
def test_rows_and_entries_of_lists_go_and_all_others_stay(lists: Any, gone: set[bytes], start: int) -> None:
    ids = IMAGES[: len(lists)]
    short = [[4 - len(own) for own in row] for row in lists]
    table = NEGATIVES.table(
        image_id=ids, negatives=pa.array(lists, pa.list_(pa.list_(NEGATIVE))), short=short, metadata={"a": "b"}
    ).slice(start)
    wanted = Wanted(frozenset(gone), frozenset())
    left = rows.without(table, wanted)
    expected = [
        {
            "image_id": row["image_id"],
            "negatives": [[one for one in own if one["image_id"] not in gone] for own in row["negatives"]],
        }
        for row in table.to_pylist()
        if row["image_id"] not in gone
    ]
    assert left.drop_columns("short").to_pylist() == expected
    assert [[4 - len(own) for own in row["negatives"]] for row in expected] == left["short"].to_pylist()
    assert left.schema.equals(table.schema, check_metadata=True)
    assert rows.hits(table, wanted) == (left.to_pylist() != table.to_pylist())
    assert not rows.hits(left, wanted)


SHOWN = st.lists(st.lists(st.tuples(st.sampled_from(IMAGES), st.integers(0, 3)), max_size=4), max_size=6)


@given(shown=SHOWN, gone=st.sets(st.sampled_from(IMAGES)), start=st.integers(0, 2))
def test_features_of_forgotten_pictures_go_from_the_rows_that_show_them(
    shown: Any, gone: set[bytes], start: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each region's numbers say whose it is, so that what is left is known without our packing."""

    def numbers(own: Any, width: int) -> Any:
        return np.repeat([float(image[0]) for image, count in own for _ in range(count)], width).reshape(-1, width)

    def row(own: Any) -> dict[str, Any]:
        return {
            "neighbours": [{"image_id": image, "similarity": 0.5, "num_regions": count} for image, count in own],
            "neighbour_regions": sum(count for _, count in own),
            "neighbour_boxes": numbers(own, 4),
            "neighbour_features": numbers(own, 3),
        }

    def table(images: list[bytes], lists: Any) -> pa.Table:
        made = [{"image_id": image} | row(own) for image, own in zip(images, lists, strict=True)]
        columns = {name: [one[name] for one in made] for name in NEIGHBOURS.schema().names}
        return NEIGHBOURS.table(metadata={"neighbour_width": "3", "neighbour_top_k": "4"}, **columns)

    ids, wanted = IMAGES[: len(shown)], Wanted(frozenset(gone), frozenset())
    whole = table(ids, shown).slice(start)
    rest = [(image, own) for image, own in list(zip(ids, shown, strict=True))[start:] if image not in gone]
    expected = table([image for image, _ in rest], [[one for one in own if one[0] not in gone] for _, own in rest])
    left = rows.without(whole, wanted)
    assert left.to_pylist() == expected.to_pylist()
    assert left.schema.equals(whole.schema, check_metadata=True)
    assert rows.hits(whole, wanted) == (left.to_pylist() != whole.to_pylist())
    assert not rows.hits(left, wanted)
    file = tmp_path_factory.mktemp("neighbours") / "00000.parquet"
    pq.write_table(whole, file)
    read_back = pq.ParquetFile(file).read(rows.looked_at(whole.schema))
    assert rows.hits(read_back, wanted) == rows.hits(whole, wanted)


COUNTS = st.lists(st.integers(0, 9), min_size=1, max_size=4)


@settings(max_examples=60)
@given(data=st.data(), counts=COUNTS, seed=st.integers(0, 9), mixed=st.integers(1, 3))
def test_what_is_left_of_a_window_stays_where_it_was_dealt(data: Any, counts: list[int], seed: int, mixed: int) -> None:
    drawing = dealing.Drawing(seed, mixed, shard_bytes=40)
    splits = [np.array([(row * 7 + count) % len(SPLITS) for row in range(count)], np.uint8) for count in counts]
    names = [np.array([f"{number}-{row}" for row in range(count)]) for number, count in enumerate(counts)]
    sources = [dealing.Source(str(number), own, 10.0) for number, own in enumerate(splits)]
    window, *_ = dealing.windows(sources, drawing)
    splits, names = ([each[int(name)] for name in window.shards] for each in (splits, names))
    before = named(window, splits, names, drawing)
    for _ in range(2):
        drawn = [data.draw(st.sets(st.integers(0, len(own) - 1))) if len(own) else set() for own in names]
        gone = [np.array(sorted(places), int) for places in drawn]
        window = dealing.without(window, gone, splits, drawing)
        splits, names = ([np.delete(own, out) for own, out in zip(each, gone, strict=True)] for each in (splits, names))
        there = {name for own in names for name in own.tolist()}
        before = [[name for name in part if name in there] for part in before]
        assert named(window, splits, names, drawing) == before
        assert [count for _, count in window.parts] == [len(part) for part in before]


def named(window: Window, splits: Any, names: Any, drawing: dealing.Drawing) -> list[list[str]]:
    every = np.concatenate(names)
    return [every[rows].tolist() for rows in dealing.dealt(window, splits, drawing)]


@given(
    sizes=st.lists(st.integers(0, 4), max_size=5),
    gone=st.sets(st.integers(0, 20)),
    bad=st.sets(st.integers(0, 20)),
    cut=st.integers(1, 5),
)
def test_a_list_without_forgotten_rows_keeps_its_bad_rows_beside_their_neighbours(
    sizes: list[int], gone: set[int], bad: set[int], cut: int
) -> None:
    total = sum(sizes)
    whole = table_of([f"text {row}" for row in range(total)])
    hashes = frozenset(tombstones.of_url(f"http://host/{row}") for row in gone)
    parts, start = [], 0
    for size in sizes:
        own = tuple(BadRow(at, "f", at, "said", "text") for at in sorted(bad) if start < at <= start + size)
        parts.append(Part(whole.slice(start, size), own))
        start += size
    stream = ListStream(remembered := Remembered(parts, hashes))
    found: list[tuple[str, str]] = []
    while stream.more():
        part = stream.take(cut)
        found += [("row", url) for url in part.rows["url"].to_pylist()]
        found += [("bad", str(row.number)) for row in part.bad]
    kept = [row for row in range(total) if row not in gone]
    assert [url for kind, url in found if kind == "row"] == [f"http://host/{row}" for row in kept]
    assert remembered.left_out == total - len(kept)
    for number in (int(text) for kind, text in found if kind == "bad"):
        before = found[: found.index(("bad", str(number)))]
        assert sum(kind == "row" for kind, _ in before) >= len([row for row in kept if row < number])
    assert len([kind for kind, _ in found if kind == "bad"]) <= len([at for at in bad if 0 < at <= total])


@pytest.mark.parametrize("line", ["zz", "abcd", "00" * 17, "a name"])
def test_a_line_that_is_no_id_is_refused_by_its_number(tmp_path: Path, line: str) -> None:
    (tmp_path / "ids.txt").write_text(f"# owners\n\n{'00' * 16}\nhttp://host/1\n{line}\n")
    with pytest.raises(InputError, match="this is no id") as error:
        read(tmp_path / "ids.txt")
    assert error.value.args[1].endswith("line 5")


def test_tombstones_are_hashes_in_order_and_each_is_there_once(tmp_path: Path) -> None:
    wanted = Wanted(frozenset(IMAGES[:2]), frozenset(["http://host/1"]))
    tombstones.add(tmp_path, wanted.hashes)
    tombstones.add(tmp_path, wanted.hashes[:1])
    lines = (tmp_path / tombstones.NAME).read_text().split()
    assert lines == sorted(set(wanted.hashes))
    assert len(lines) == 3
    assert not any(image.hex() in "".join(lines) for image in IMAGES)

"""Which rows differ, against Python's own comparison of the same values. The tolerance by arithmetic."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspection.diff.parts import Boxes, Lists, partners
from inspection.diff.values import differing, differing_blobs
from schemas.negatives import NEGATIVE

FLOATS = st.one_of(st.none(), st.sampled_from([0.0, 1.0, 1.5, -2.0, math.inf]))
STRUCT = st.one_of(st.none(), st.fixed_dictionaries({"text": st.sampled_from(["a", "b"]), "score": FLOATS}))
KINDS = {
    "text": (pa.string(), st.one_of(st.none(), st.sampled_from(["", "a", "b"]))),
    "id": (pa.binary(2), st.sampled_from([b"aa", b"a\0", b"\0a"])),
    "number": (pa.float32(), FLOATS),
    "structs": (
        pa.list_(pa.struct({"text": pa.string(), "score": pa.float32()})),
        st.one_of(st.none(), st.lists(STRUCT, max_size=3)),
    ),
    "nested": (
        pa.list_(pa.list_(pa.int32())),
        st.one_of(st.none(), st.lists(st.one_of(st.none(), st.lists(st.integers(0, 2), max_size=2)), max_size=3)),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=50)
@given(data=st.data())
def test_rows_differ_where_python_says_so(kind: str, data: st.DataObject) -> None:
    arrow, values = KINDS[kind]
    pairs = data.draw(st.lists(st.tuples(values, values), max_size=8))
    # A slice of a longer array: offsets that do not begin at 0 are where such code goes wrong.
    some, others = (
        pa.array([values_of[side] for values_of in [*pairs[:1], *pairs]], arrow).slice(len(pairs[:1]))
        for side in range(2)
    )
    assert differing(some, others).rows.tolist() == [one != other for one, other in pairs]


NUMBERS = st.lists(st.one_of(st.none(), st.lists(st.sampled_from([0.0, 0.5, 1.0, math.nan]), max_size=3)), max_size=6)


@settings(max_examples=50)
@given(some=NUMBERS, others=NUMBERS)
def test_packed_numbers_differ_where_their_numbers_do(some: list[Any], others: list[Any]) -> None:
    count = min(len(some), len(others))
    kinds = (np.dtype("<f2"), np.dtype("<f2"))
    packed = [
        pa.array([None if row is None else np.array(row, "<f2").tobytes() for row in side[:count]], pa.large_binary())
        for side in (some, others)
    ]
    wanted = [repr(one) != repr(other) for one, other in zip(some[:count], others[:count], strict=True)]
    assert differing_blobs(packed[0], packed[1], kinds).rows.tolist() == wanted


@pytest.mark.parametrize(
    ("one", "other", "tolerance", "differ", "largest"),
    [
        (1.0, 1.0009, 1e-3, False, 0.0),
        (1.0, 1.002, 1e-3, True, 0.002),
        (1000.0, 1000.9, 1e-3, False, 0.0),  # a share of numbers beyond 1
        (0.0, 0.0009, 1e-3, False, 0.0),  # and the tolerance itself below
        (0.0, 0.5, 0.0, True, 0.5),
        (math.nan, math.nan, 0.0, False, 0.0),
        (math.nan, 1.0, 1e9, True, math.inf),
        (math.inf, 1.0, 1e9, True, math.inf),
    ],
)
def test_the_tolerance(one: float, other: float, tolerance: float, differ: bool, largest: float) -> None:
    found = differing(pa.array([one]), pa.array([other]), tolerance)
    assert found.rows.tolist() == [differ]
    assert found.largest == pytest.approx(largest)


def test_numbers_of_another_type_differ() -> None:
    row = pa.array([np.ones(2, "<f4").tobytes()], pa.large_binary())
    half = pa.array([np.ones(2, "<f2").tobytes()], pa.large_binary())
    types = (np.dtype("<f4"), np.dtype("<f2"))
    assert differing_blobs(row, half, types).rows.tolist() == [False]  # the same numbers, stored otherwise
    assert differing_blobs(row, half, (types[0], types[0])).rows.tolist() == [True]


def test_boxes_that_moved_are_counted_by_overlap() -> None:
    some = np.array([[0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60], [80, 80, 90, 90]], "<f4")
    others = np.array([[0, 0, 10, 10], [20, 20, 30, 32], [90, 90, 99, 99]], "<f4")  # IoU 1, 100 / 120, and new
    boxes = Boxes()
    boxes.add(some, others, (np.array([1, 2, 3, 4]), np.array([1, 5, 3])))
    assert boxes.told() == {
        "images": 1,
        "equal": 1,
        "moved": 1,
        "mean_iou_of_moved": pytest.approx(100 / 120),
        "moved_by_iou": {"iou ≥ 0.9": 0, "iou ≥ 0.75": 1, "iou ≥ 0.5": 0},
        "only_a": 2,
        "only_b": 1,
        "renamed": 1,
    }


@settings(max_examples=50)
@given(data=st.data())
def test_partners_are_each_others_best_whichever_side_comes_first(data: st.DataObject) -> None:
    corner = st.integers(0, 6)
    box = st.tuples(corner, corner, st.integers(1, 6), st.integers(1, 6)).map(
        lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
    )
    some, others = (np.array(data.draw(st.lists(box, max_size=5)), "<f4").reshape(-1, 4) for _ in range(2))
    mine, theirs, overlaps = partners(some, others)
    back, there, _ = partners(others, some)
    assert sorted(zip(mine, theirs, strict=True)) == sorted(zip(there, back, strict=True))
    assert len(set(mine)) == len(mine) == len(set(theirs))
    for row, other, overlap in zip(mine, theirs, overlaps, strict=True):
        assert overlap == pytest.approx(iou_by_cells(some[row], others[other]))


def iou_by_cells(one: Any, other: Any) -> float:
    """Boxes with whole corners cover whole cells: their overlap is counted."""
    cells = [{(x, y) for x in range(int(b[0]), int(b[2])) for y in range(int(b[1]), int(b[3]))} for b in (one, other)]
    return len(cells[0] & cells[1]) / len(cells[0] | cells[1])


MEMBER = st.builds(
    lambda image, caption: {"image_id": bytes([image]) * 16, "caption_index": caption, "text": "t", "similarity": 0.1},
    st.integers(0, 2),
    st.integers(0, 1),
)
# A list names a caption once.
MEMBERS = st.lists(MEMBER, max_size=3, unique_by=lambda m: (m["image_id"], m["caption_index"]))


@settings(max_examples=50)
@given(rows=st.lists(st.tuples(*[st.lists(MEMBERS, max_size=3)] * 2), max_size=4))
def test_lists_of_negatives_by_brute_force(rows: list[tuple[Any, Any]]) -> None:
    some, others = (pa.array([row[side] for row in rows], pa.list_(pa.list_(NEGATIVE))) for side in range(2))
    lists = Lists()
    lists.add(some, others)

    def names(members: Any) -> list[tuple[bytes, int]]:
        return [(member["image_id"], member["caption_index"]) for member in members]

    pairs = [pair for one, other in rows if len(one) == len(other) for pair in zip(one, other, strict=True)]
    assert lists.lists == sum(len(one) for one, _ in rows)
    assert lists.equal == sum(names(one) == names(other) for one, other in pairs)
    assert lists.members == sum(len(members) for one, _ in rows for members in one)
    assert lists.shared == sum(len(set(names(one)) & set(names(other))) for one, other in pairs)

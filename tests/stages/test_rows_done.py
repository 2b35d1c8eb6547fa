"""What a stage says of rows that are done, counted by hand."""

from __future__ import annotations

import threading
from contextlib import suppress

from hypothesis import given
from hypothesis.strategies import floats, integers, lists

from stages import rows_done


def test_calls_that_return_count_whole_and_calls_that_raise_not_at_all() -> None:
    said: list[float] = []
    with rows_done.counting(said.append, every_s=0.0):
        count = rows_done.current()
        with count.call(10):
            rows_done.add(4)
            rows_done.add(3)
        with suppress(ValueError), count.call(6):
            rows_done.add(5)
            raise ValueError
        with count.call(3):
            rows_done.add()
    assert said == [4, 7, 15, 11]


def test_units_that_are_no_rows_are_shares_of_the_call() -> None:
    said: list[float] = []
    with rows_done.counting(said.append, every_s=0.0), rows_done.current().call(10):
        rows_done.expect(40)  # captions, say
        rows_done.add(10)
        rows_done.add(20)
    assert said == [2.5, 7.5]


@given(rows=integers(0, 50), expected=floats(0, 100), steps=lists(floats(0, 60), max_size=9))
def test_no_call_says_more_than_its_rows(rows: int, expected: float, steps: list[float]) -> None:
    said: list[float] = []
    with rows_done.counting(said.append, every_s=0.0), rows_done.current().call(rows):
        rows_done.expect(expected)
        for step in steps:
            rows_done.add(step)
    assert said == sorted(said)
    assert all(0 <= each <= rows for each in said)


def test_reports_come_at_most_so_often_and_only_to_the_thread_that_asks() -> None:
    said: list[float] = []
    with rows_done.counting(said.append, every_s=3600.0), rows_done.current().call(5):
        rows_done.add(5)
    assert said == []
    with rows_done.counting(said.append, every_s=0.0), rows_done.current().call(5):
        count = rows_done.current()
        for work in (rows_done.add, count.add):  # another thread has no count of its own
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
    assert said == [1]
    rows_done.add(5)  # nobody asks
    assert said == [1]

"""Work in a thread ends with a result, with an error that has a cure, or with a fault that is said."""

from __future__ import annotations

import threading
from queue import Queue

import pytest

from inspection.browse.jobs import Job, Jobs
from pairloom.errors import InputError, RunError


def test_a_result_and_how_far_it_is() -> None:
    def make(told: object) -> str:
        assert callable(told)
        told(3)
        return "made"

    job = Job(make, 3)
    assert job.wait(30)
    assert (job.checked(), job.done) == ("made", 3)


def test_an_error_with_a_cure_is_raised_where_it_is_asked_for() -> None:
    def make(_: object) -> None:
        raise InputError("no such table", "data", "name another")

    job = Job(make)
    assert job.wait(30)
    with pytest.raises(InputError, match="no such table"):
        job.checked()


def test_a_fault_is_said_and_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    said: Queue[threading.ExceptHookArgs] = Queue()
    monkeypatch.setattr(threading, "excepthook", said.put)
    job = Jobs().get("a key", lambda _: 1 // 0)
    assert said.get(timeout=30).exc_type is ZeroDivisionError  # the terminal shows it
    assert job.wait(30)
    with pytest.raises(RunError, match="fault of pairloom"):
        job.checked()

"""A lease in a bucket, over HTTP from moto's server: one holder, who is replaced once it no longer beats."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pairloom.errors import RunError, StoreError
from pairloom.store import lease
from pairloom.store.address import Address
from pairloom.store.bucket import Bucket
from pairloom.store.lease import Lease, leased, refuse_lost, run_of
from tests.bucket import content, serving


@pytest.fixture
def here(client: Any) -> Bucket:
    return Bucket(Address("s3", "pairs", "d"))


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(lease, "BEAT_S", 0.2)
    monkeypatch.setattr(lease, "TERM_S", 1.5)
    monkeypatch.setattr(lease, "LOOK_S", 0.1)
    with serving("pairs") as (_, found):
        yield found


def elsewhere(client: Any, number: int, **facts: Any) -> None:
    """A lease that a run on another machine took."""
    theirs = {"run": "theirs", "host": "far", "pid": 7, "system": "another boot", "beat": 3, "ended": False} | facts
    client.put_object(Bucket="pairs", Key=f"d/.locks/x/{number:09d}", Body=json.dumps(theirs).encode())


def test_one_of_many_gets_it_and_the_others_are_refused_by_its_name(here: Bucket) -> None:
    def work(number: int) -> str:
        try:
            with leased(here, "x") as run:
                assert run_of(here, "x") == run
                time.sleep(1.0)
                refuse_lost(here, "x", run)
                return "held"
        except StoreError as error:
            return str(error.args[0])

    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(work, range(4)))
    mine = Lease.mine()
    refused = f"another run writes stage x of this dataset: process {mine.pid} on {mine.host}"
    assert sorted(said) == sorted(["held", *[refused] * 3])
    assert run_of(here, "x") == ""


def test_a_lease_that_ended_is_followed_at_once_and_numbers_rise(client: Any, here: Bucket) -> None:
    for _ in range(3):
        with leased(here, "x"):
            pass
    assert list(content(client, "pairs")) == ["d/.locks/x/000000003"]


def test_a_number_that_others_took_and_gave_back_in_between_is_not_taken(
    client: Any, here: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up = lease._latest
    seen: list[tuple[str, Lease] | None] = []

    def slow(bucket: Bucket, stage: str) -> tuple[str, Lease] | None:
        found = looked_up(bucket, stage)
        if not seen:  # a whole life of lease 1 and the birth of lease 2 pass before this look is acted upon
            elsewhere(client, 2, ended=True)
        seen.append(found)
        return found

    monkeypatch.setattr(lease, "_latest", slow)
    with leased(here, "x") as run:
        assert run_of(here, "x") == run
        assert list(content(client, "pairs")) == ["d/.locks/x/000000003"]


def test_a_holder_that_does_not_beat_is_replaced_and_finds_that_out(client: Any, here: Bucket) -> None:
    elsewhere(client, 4)
    began = time.monotonic()
    with leased(here, "x") as run:
        assert time.monotonic() - began >= 1.5
        refuse_lost(here, "x", run)
        with pytest.raises(RunError, match="another run writes stage x by now"):
            refuse_lost(here, "x", "theirs")
        elsewhere(client, 4)  # it wakes up, and beats once more
        refuse_lost(here, "x", run)
    with pytest.raises(RunError, match="has ended"):
        refuse_lost(here, "x", run)


def test_a_holder_elsewhere_that_beats_is_left_alone(client: Any, here: Bucket) -> None:
    stop, beats = threading.Event(), iter(range(10, 1000))
    elsewhere(client, 4)

    def beat() -> None:
        while not stop.wait(0.2):
            elsewhere(client, 4, beat=next(beats))

    heart = threading.Thread(target=beat)
    heart.start()
    try:
        with pytest.raises(StoreError, match="process 7 on far"), leased(here, "x"):
            pass
    finally:
        stop.set()
        heart.join()


def test_a_process_of_this_machine_that_is_gone_is_not_waited_for(
    client: Any, here: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "TERM_S", 1000.0)
    elsewhere(client, 4, system=Lease.mine().system, pid=2**22 + 1)  # beyond Linux's largest
    with leased(here, "x") as run:
        assert run_of(here, "x") == run

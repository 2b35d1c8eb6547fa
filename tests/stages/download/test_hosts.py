"""Whose turn it is, with a clock of our own: courtesy, hosts set aside, hosts given up."""

from __future__ import annotations

from hypothesis import given
from hypothesis.strategies import integers, lists

from stages.download.address import parse
from stages.download.hosts import Courtesy, Hosts, Job


def job(host: str, number: int = 0) -> Job:
    return Job(parse(f"http://{host}/{number}"), bytes(16), None, None)


def names(hosts: Hosts, now: float, most: int = 100) -> list[str]:
    """The hosts of all rows that may be started now."""
    taken: list[str] = []
    while len(taken) < most and (found := hosts.take(now)):
        taken.append(found.target.host)
    return taken


def test_a_host_gets_one_request_until_it_has_answered_and_then_its_share() -> None:
    hosts = Hosts(Courtesy(connections=3, pause_s=0.0))
    jobs = [job("a.example", number) for number in range(9)]
    for one in jobs:
        hosts.add(one, 0.0)
    assert names(hosts, 0.0) == ["a.example"]
    hosts.answer(hosts.of(jobs[0]))
    hosts.done(hosts.of(jobs[0]), 0.0)
    assert names(hosts, 0.0) == ["a.example"] * 3


def test_requests_to_a_host_are_spaced_and_hosts_take_turns() -> None:
    hosts = Hosts(Courtesy(connections=8, pause_s=1.0))
    for host in ("a.example", "b.example"):
        for number in range(3):
            hosts.add(job(host, number), 0.0)
        hosts.answer(hosts.of(job(host)))
    assert names(hosts, 0.0) == ["a.example", "b.example"]
    assert names(hosts, 0.9) == []
    assert hosts.next_time() == 1.0
    assert names(hosts, 1.0) == ["a.example", "b.example"]


def test_a_host_that_falls_silent_is_tried_last_and_a_few_rows_at_a_time() -> None:
    hosts = Hosts(Courtesy(connections=8, pause_s=0.0, aside_after=2, aside_connections=3))
    for number in range(9):
        hosts.add(job("dead.example", number), 0.0)
    dead = hosts.of(job("dead.example"))
    hosts.answer(dead)
    assert hosts.silence(dead, 0.0) == ()
    assert names(hosts, 0.0) == ["dead.example"] * 8
    assert hosts.silence(dead, 0.0) == ()
    for _ in range(8):
        hosts.done(dead, 0.0)
    for number in range(8):
        hosts.add(job("dead.example", number), 0.0)
    for number in range(2):
        hosts.add(job("good.example", number), 0.0)
    hosts.answer(hosts.of(job("good.example")))
    assert names(hosts, 0.0) == ["good.example"] * 2 + ["dead.example"] * 3


def test_a_host_that_does_not_answer_its_first_request_is_tried_last_at_once() -> None:
    hosts = Hosts(Courtesy(connections=8, pause_s=0.0, aside_connections=3))
    for number in range(9):
        hosts.add(job("dead.example", number), 0.0)
    assert names(hosts, 0.0) == ["dead.example"]
    dead = hosts.of(job("dead.example"))
    assert hosts.silence(dead, 0.0) == ()
    hosts.done(dead, 0.0)
    hosts.add(job("good.example"), 0.0)
    assert names(hosts, 0.0) == ["good.example"] + ["dead.example"] * 3


def test_rows_of_a_host_that_never_answers_are_given_up_and_it_may_come_back() -> None:
    hosts = Hosts(Courtesy(pause_s=0.0, aside_connections=1, given_up_after=3, rest_s=10.0))
    for number in range(5):
        hosts.add(job("dead.example", number), 0.0)
    dead = hosts.of(job("dead.example"))
    given_up: list[Job] = []
    for _ in range(3):
        assert names(hosts, 0.0) == ["dead.example"]
        given_up += hosts.silence(dead, 0.0)
        hosts.done(dead, 0.0)
    assert len(given_up) == 2
    late = job("dead.example", 9)
    assert hosts.add(late, 5.0) is late
    assert hosts.add(late, 11.0) is None
    assert names(hosts, 11.0) == ["dead.example"]
    hosts.answer(dead)
    hosts.done(dead, 11.0)
    assert hosts.add(late, 11.0) is None


def test_retry_after_holds_the_whole_host() -> None:
    hosts = Hosts(Courtesy(pause_s=0.0))
    for number in range(2):
        hosts.add(job("busy.example", number), 0.0)
    busy = hosts.of(job("busy.example"))
    assert names(hosts, 0.0) == ["busy.example"]
    hosts.answer(busy)
    hosts.hold(busy, 30.0)
    hosts.done(busy, 0.0)
    assert names(hosts, 29.0) == []
    assert names(hosts, 30.0) == ["busy.example"]


def test_an_exempt_host_has_no_limit() -> None:
    hosts = Hosts(Courtesy(connections=1, pause_s=9.0, exempt=frozenset({"sample.invalid"})))
    for number in range(20):
        hosts.add(job("sample.invalid", number), 0.0)
    assert len(names(hosts, 0.0)) == 20


@given(listed=lists(integers(0, 4), max_size=40), most=integers(1, 5))
def test_every_row_gets_its_turn_once_and_no_host_more_than_its_share(listed: list[int], most: int) -> None:
    hosts = Hosts(Courtesy(connections=most, pause_s=0.5))
    for number, host in enumerate(listed):
        hosts.add(job(f"h{host}.example", number), 0.0)
    running: list[Job] = []
    seen = []
    now = 0.0
    while hosts.waiting or running:
        while found := hosts.take(now):
            running.append(found)
            seen.append(int(found.target.path[1:]))
        for name in {hosts.of(one).name for one in running}:
            assert sum(hosts.of(one).name == name for one in running) <= most
        if running:
            ended = running.pop(0)
            hosts.answer(hosts.of(ended))
            hosts.done(hosts.of(ended), now)
        now += 0.1
    assert sorted(seen) == list(range(len(listed)))

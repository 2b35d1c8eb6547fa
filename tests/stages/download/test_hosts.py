"""Whose turn it is, with a clock of our own: courtesy, hosts set aside, hosts given up."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from hypothesis import given
from hypothesis.strategies import floats, integers, lists

from stages.download.address import parse
from stages.download.failure import Failure
from stages.download.host import Courtesy, Job
from stages.download.hosts import Hosts
from stages.download.pace import Pace


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
    hosts.silence(dead, 0.0)
    assert names(hosts, 0.0) == ["dead.example"] * 8
    hosts.silence(dead, 0.0)
    assert hosts.lost() == []
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
    hosts.silence(dead, 0.0)
    assert hosts.lost() == []
    hosts.done(dead, 0.0)
    hosts.add(job("good.example"), 0.0)
    assert names(hosts, 0.0) == ["good.example"] + ["dead.example"] * 3


def test_rows_of_a_host_that_never_answers_are_given_up_and_it_may_come_back() -> None:
    hosts = Hosts(Courtesy(pause_s=0.0, aside_connections=1, given_up_after=3, rest_s=10.0))
    for number in range(5):
        hosts.add(job("dead.example", number), 0.0)
    dead = hosts.of(job("dead.example"))
    for _ in range(3):
        assert names(hosts, 0.0) == ["dead.example"]
        hosts.silence(dead, 0.0)
        hosts.done(dead, 0.0)
    assert [why.reason for _, why in hosts.lost()] == ["host-down"] * 2
    late = job("dead.example", 9)
    hosts.add(late, 5.0)
    assert [lost for lost, _ in hosts.lost()] == [late]
    hosts.add(late, 11.0)
    assert hosts.lost() == []
    assert names(hosts, 11.0) == ["dead.example"]
    hosts.answer(dead)
    hosts.done(dead, 11.0)
    hosts.add(late, 11.0)
    assert hosts.lost() == []


def work(hosts: Hosts, until: float, answer: Callable[[Hosts, Job, float], None]) -> tuple[float, list[Failure]]:
    """Let every request be answered at once, with nothing else to do. When no row is left, and why rows were lost."""
    now, lost = 0.0, []
    while now < until:
        while found := hosts.take(now):
            answer(hosts, found, now)
            hosts.done(hosts.of(found), now)
        lost += [why for _, why in hosts.lost()]
        if (moment := hosts.next_time()) is None:
            return now, lost
        hosts.idle_s += moment - now
        now = moment
    return now, lost


def with_rows(courtesy: Courtesy, count: int) -> Hosts:
    hosts = Hosts(courtesy)
    for number in range(count):
        hosts.add(job("slow.example", number), 0.0)
    return hosts


DAY = 86_400.0


@given(delay=floats(0, 1e12), rows=integers(1, 300), limit=floats(1, 5000))
def test_no_crawl_delay_holds_the_run_for_longer_than_is_waited(delay: float, rows: int, limit: float) -> None:
    def come(hosts: Hosts, row: Job, now: float) -> None:
        hosts.answer(hosts.of(row), delay)
        hosts.progress(hosts.of(row))
        came.append(now)

    came: list[float] = []
    hosts = with_rows(Courtesy(pause_s=0.05, max_host_s=limit), rows)
    ended, lost = work(hosts, 30 * DAY, come)
    assert ended <= limit + 0.05 * rows + 1
    assert len(came) + len(lost) == rows
    assert {why.reason for why in lost} <= {"host-slow"}
    assert all(later - earlier >= 0.99 * delay for earlier, later in pairwise(came))
    if delay * rows < limit:
        assert not lost, "a host that can be waited for loses no row"


@given(wait=floats(0.1, 60), rows=integers(1, 300), every=integers(1, 10))
def test_no_retry_after_holds_the_run_for_longer_than_is_waited(wait: float, rows: int, every: int) -> None:
    def refuse(hosts: Hosts, row: Job, now: float) -> None:
        host = hosts.of(row)
        hosts.answer(host)
        asked.append(row)
        if len(asked) % every == 0:
            hosts.progress(host)  # now and then a row comes
            return
        hosts.fruitless(host, now)
        hosts.hold(host, now + wait)
        hosts.add(row, now)

    asked: list[Job] = []
    ended, lost = work(with_rows(Courtesy(max_host_s=1800.0), rows), 30 * DAY, refuse)
    assert ended < 2 * 1800 + 60
    assert {why.reason for why in lost} <= {"host-slow", "host-down"}


def test_the_time_of_other_hosts_is_not_charged_to_one_that_must_be_waited_for() -> None:
    hosts = with_rows(Courtesy(max_host_s=100.0), 50)
    now = 0.0
    for _ in range(50):  # every 10 s for 500 s, in which there always is something else to do
        found = hosts.take(now)
        assert found is not None
        hosts.answer(hosts.of(found), 10.0)
        hosts.done(hosts.of(found), now)
        now += 10.0
    assert hosts.lost() == []


def test_a_host_from_which_only_temporary_failures_come_is_given_up_unless_they_come_fast() -> None:
    for every, given_up in ((10.0, True), (0.1, False)):
        hosts = with_rows(Courtesy(pause_s=every), 100)

        def fail(hosts: Hosts, row: Job, now: float) -> None:
            hosts.answer(hosts.of(row))
            hosts.fruitless(hosts.of(row), now)

        _, lost = work(hosts, DAY, fail)
        assert ([why.reason for why in lost] == ["host-down"] * 64) == given_up


def test_refusals_slow_a_host_down_and_answers_speed_it_up_again() -> None:
    pace = Pace(0.05)
    assert not pace.imposed
    pace.refused(1.0, 0.5)
    pace.refused(1.0, 0.6)  # it was on its way when the first one came
    assert pace.pause_s == 0.1
    pace.refused(2.0, 1.5)
    assert pace.pause_s == 0.2
    for _ in range(5000):
        pace.bore()
    assert pace.pause_s == 0.05
    for moment in range(50):
        pace.refused(moment, moment)
    assert pace.pause_s == 30.0


@given(limit=floats(0.5, 15), burst=integers(1, 20))
def test_the_rate_that_a_host_bears_is_found(limit: float, burst: int) -> None:
    """A server that takes `limit` requests a second. It must get at least a fourth of that, and refuse few."""
    pace, now, tokens, came, refused = Pace(0.05), 0.0, float(burst), 0, 0
    while now < 300:
        tokens = min(burst, tokens + limit * pace.pause_s)
        now += pace.pause_s
        if tokens >= 1:
            tokens, came = tokens - 1, came + 1
            pace.bore()
        else:
            refused += 1
            pace.refused(now, now)
    assert came > 0.25 * limit * 300
    assert refused < 0.5 * came


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


def test_a_row_that_needs_no_request_lets_no_other_wait() -> None:
    hosts = with_rows(Courtesy(pause_s=0.05), 20)
    for _ in range(20):  # all of them are refused by a robots.txt that asks for a long pause
        found = hosts.take(0.0)
        assert found is not None
        hosts.answer(hosts.of(found), 100.0)
        hosts.unasked(hosts.of(found), found)
        hosts.done(hosts.of(found), 0.0)


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

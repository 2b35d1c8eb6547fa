"""The engine against real servers: manners, persistence, outages, and decoders that die."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psutil
import pytest

from pairloom.errors import MachineError, RunError
from stages.download.decoders import Decoders, Decoding
from stages.download.engine import Engine
from stages.download.host import Courtesy
from stages.download.names import Doors
from stages.download.persistence import Persistence, jitter
from stages.download.pictures import Limits
from stages.download.spool import Spool, key_of
from tests.stages.download.fetching import JPEG, manners, outcomes
from tests.stages.download.hostile import HostileServer, hang, in_turn, jpeg, kept, raw, reply

URL = "http://mirror.invalid"
DECODING = Decoding(Limits(max_pixels=1_000_000, max_side=256, quality=90), processes=1)


def make(server: HostileServer, courtesy: Courtesy | None = None, persistence: Any = None, **changes: Any) -> Engine:
    persistence = Persistence(**{"retries": 0, "backoff_s": 0.01, **(persistence or {})})
    return Engine(manners(server, **changes), courtesy or Courtesy(pause_s=0.0), persistence, DECODING)


def run(engine: Engine, urls: list[str], folder: Path | None = None) -> list[dict[str, Any]]:
    with engine.run([(url, None) for url in urls], folder) as spool:
        return [spool.get(key_of(url, None))[0] for url in urls]


def test_robots_txt_is_asked_once_a_host_and_heeded(hostile: HostileServer) -> None:
    rules = b"User-agent: *\nDisallow: /private\n\nUser-agent: pairloom\nDisallow: /mine\n"
    hostile.answers["/robots.txt"] = reply(rules)
    hostile.answers["/open.jpg"] = reply(JPEG)
    urls = [f"{URL}{path}" for path in ("/open.jpg", "/mine/1.jpg", "/mine/2.jpg")]
    found = outcomes(hostile, urls, robots=True)
    assert [one.get("reason") for one in found] == [None, "opt-out", "opt-out"]
    assert hostile.requests.count("/robots.txt") == 1
    assert [path for path in hostile.requests if path.startswith("/mine")] == []


def test_a_robots_txt_that_cannot_be_had_is_tried_again_and_none_allows_all(hostile: HostileServer) -> None:
    hostile.answers["/robots.txt"] = in_turn(reply(status=503), reply(status=404))
    hostile.answers["/x.jpg"] = reply(JPEG)
    (found,) = outcomes(hostile, [f"{URL}/x.jpg"], retries=1, robots=True)
    assert (found.get("reason"), found["attempts"]) == (None, 2)
    hostile.answers["/robots.txt"] = reply(status=503)
    (found,) = outcomes(hostile, [f"{URL}/x.jpg"], retries=1, robots=True)
    assert (found["reason"], found["detail"], found["attempts"]) == ("http-5xx", "robots.txt: status 503", 2)


def test_robots_txt_counts_for_the_goal_of_a_redirect_too(hostile: HostileServer) -> None:
    doors = Doors(mapped=dict.fromkeys(("mirror.invalid", "goal.invalid"), ("127.0.0.1", hostile.port)))
    hostile.answers["/away"] = reply(status=302, Location="http://goal.invalid/private.jpg")
    hostile.answers["/robots.txt"] = in_turn(reply(status=404), reply(b"User-agent: *\nDisallow: /"))
    (found,) = outcomes(hostile, [f"{URL}/away"], robots=True, doors=doors)
    assert (found["reason"], found["detail"]) == ("opt-out", "redirected: robots.txt")
    assert "/private.jpg" not in hostile.requests


def test_retry_after_is_waited_for_unless_it_is_too_long(hostile: HostileServer) -> None:
    hostile.answers["/busy"] = in_turn(reply(status=429, Retry_After="1"), reply(JPEG))
    start = time.monotonic()
    (found,) = outcomes(hostile, [f"{URL}/busy"], retries=1)
    assert (found.get("reason"), found["attempts"]) == (None, 2)
    assert time.monotonic() - start >= 1
    hostile.answers["/later"] = reply(status=429, Retry_After="3600")
    (found,) = outcomes(hostile, [f"{URL}/later"], retries=5)
    assert (found["reason"], found["attempts"]) == ("rate-limited", 1)


def test_the_jitter_is_seeded_by_the_row() -> None:
    keys = [key_of(str(number), None) for number in range(200)]
    factors = [jitter(key, 1) for key in keys]
    assert factors == [jitter(key, 1) for key in keys]
    assert 0.5 <= min(factors) < 0.6 < 1.4 < max(factors) < 1.5


def test_a_host_that_never_answers_is_given_up(hostile: HostileServer) -> None:
    hostile.answers["/x"] = reply(JPEG)
    doors = Doors(mapped={"mirror.invalid": ("127.0.0.1", hostile.port), "dead.invalid": ("127.0.0.1", 9)})
    engine = make(hostile, Courtesy(pause_s=0.0, aside_connections=1, given_up_after=3), doors=doors)
    found = run(engine, [f"{URL}/x", *(f"http://dead.invalid/{number}" for number in range(6))])
    engine.close()
    assert [one.get("reason") for one in found] == [None, *["connect"] * 3, *["host-down"] * 3]
    assert found[-1]["attempts"] == 3


def test_connections_that_end_as_they_are_taken_again_cost_no_attempt(hostile: HostileServer) -> None:
    hostile.answers |= {f"/{number}": kept(reply(jpeg(seed=number))) for number in range(16)}
    engine = make(hostile)
    run(engine, [f"{URL}/{number}" for number in range(8)])  # leaves several connections behind, all of them dead
    found = run(engine, [f"{URL}/{number}" for number in range(8, 16)])
    engine.close()
    assert [(one.get("reason"), one["attempts"]) for one in found] == [(None, 1)] * 8
    assert sorted(hostile.requests) == sorted(f"/{number}" for number in range(16))


def test_a_new_connection_that_ends_without_an_answer_is_an_attempt_and_one_request(hostile: HostileServer) -> None:
    hostile.answers["/x"] = raw(b"")
    engine = make(hostile, persistence={"retries": 1})
    (found,) = run(engine, [f"{URL}/x"])
    engine.close()
    assert (found["reason"], found["attempts"], hostile.requests) == ("connect", 2, ["/x", "/x"])


def test_an_outage_stops_the_run_and_its_rows_are_not_noted_as_failed(hostile: HostileServer, tmp_path: Path) -> None:
    hostile.answers["/x"] = reply(JPEG)
    alive = {"mirror.invalid": ("127.0.0.1", hostile.port)}
    urls = [f"{URL}/x", *(f"http://h{number}.invalid/x" for number in range(20))]
    dead = {f"h{number}.invalid": ("127.0.0.1", 9) for number in range(20)}
    engine = make(hostile, persistence={"outage_after": 5}, doors=Doors(mapped=alive | dead))
    assert run(engine, urls[:1], tmp_path)[0].get("reason") is None
    engine.close()
    nowhere = dict.fromkeys(alive | dead, ("127.0.0.1", 9))
    engine = make(hostile, persistence={"outage_after": 5}, doors=Doors(mapped=nowhere))
    with pytest.raises(RunError, match="nor does mirror"):
        run(engine, urls, tmp_path)
    engine.close()
    with Spool(tmp_path) as spool:
        assert [key_of(url, None) in spool for url in urls] == [True, *[False] * 20]


def test_dead_hosts_are_no_outage_as_long_as_another_answers(hostile: HostileServer) -> None:
    hostile.answers["/x"] = reply(JPEG)
    dead = {f"h{number}.invalid": ("127.0.0.1", 9) for number in range(20)}
    doors = Doors(mapped={"mirror.invalid": ("127.0.0.1", hostile.port)} | dead)
    engine = make(hostile, persistence={"outage_after": 5}, doors=doors)
    run(engine, [f"{URL}/x"])
    found = run(engine, [f"{URL}/x", *(f"http://{host}/x" for host in dead)])
    engine.close()
    assert [one.get("reason") for one in found] == [None, *["connect"] * 20]
    assert hostile.requests.count("/x") >= 2, "the picture that had come was asked for again, as a test"


@pytest.mark.crash
def test_a_decoder_that_dies_costs_one_row(hostile: HostileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        hostile.answers[f"/{number}"] = reply(jpeg(seed=number))
    exchange = Decoders.outcome

    async def deadly(self: Decoders, body: bytes, kind: str, checksum: str | None) -> Any:
        if body == jpeg(seed=2):
            await exchange(self, jpeg(), kind, None)  # so that a process is there
            os.kill(self._alive[0].popen.pid, signal.SIGSEGV)
        return await exchange(self, body, kind, checksum)

    monkeypatch.setattr(Decoders, "outcome", deadly)
    engine = make(hostile, connections=1)
    found = run(engine, [f"{URL}/{number}" for number in range(4)])
    engine.close()
    assert [one.get("reason") for one in found] == [None, None, "damaged-image", None]
    assert found[2]["detail"] == "the decoder crashed on it (SIGSEGV)"


@contextmanager
def killing(times: int) -> Iterator[None]:
    """Meanwhile decoders are killed from outside as soon as they are there, as the kernel does where memory ends."""
    over = Event()

    def kill() -> None:
        dead = set[int]()
        while len(dead) < times and not over.wait(0.002):
            for child in psutil.Process().children():
                with suppress(psutil.Error):  # it has ended by itself
                    if child.pid not in dead and "stages.download.decoder" in child.cmdline():
                        child.kill()
                        dead.add(child.pid)

    killer = Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        over.set()
        killer.join()


@pytest.mark.crash
def test_decoders_that_others_kill_cost_no_row(hostile: HostileServer, tmp_path: Path) -> None:
    """The rows of a few are tried again. Where most are killed, the machine lacks something, and no row is noted."""
    urls = [f"{URL}/{number}" for number in range(6)]
    for number in range(6):
        hostile.answers[f"/{number}"] = reply(jpeg(seed=number))
    engine = make(hostile, connections=1)
    with killing(1):
        found = run(engine, urls)
    assert [one.get("reason") for one in found] == [None] * 6
    with killing(1000), pytest.raises(MachineError, match=r"of 6 rows .* killed: .*SIGKILL") as caught:
        run(engine, urls, tmp_path)
    assert "decoder_memory_mb" in str(caught.value)
    assert [one.get("reason") for one in run(engine, urls, tmp_path)] == [None] * 6
    engine.close()


@pytest.mark.crash
def test_a_row_whose_decoder_is_killed_each_time_is_left_out(
    hostile: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be what ends the machine's memory."""
    for number in range(4):
        hostile.answers[f"/{number}"] = reply(jpeg(seed=number))
    attempt = Decoders._attempt

    async def deadly(self: Decoders, body: bytes, kind: str, checksum: str | None) -> Any:
        if body == jpeg(seed=2):
            await attempt(self, jpeg(), kind, None)  # so that a process is there
            self._alive[0].popen.kill()
        return await attempt(self, body, kind, checksum)

    monkeypatch.setattr(Decoders, "_attempt", deadly)
    engine = make(hostile, connections=1)
    found = run(engine, [f"{URL}/{number}" for number in range(4)])
    engine.close()
    assert [one.get("reason") for one in found] == [None, None, "worker-died", None]
    assert found[2]["detail"] == "the decoder was killed each time (SIGKILL)"


def test_rows_that_are_noted_are_not_asked_for_again(hostile: HostileServer, tmp_path: Path) -> None:
    for number in range(6):
        hostile.answers[f"/{number}"] = reply(jpeg(seed=number)) if number % 2 else reply(status=404)
    urls = [f"{URL}/{number}" for number in range(6)]
    engine = make(hostile)
    run(engine, urls[:3], tmp_path)
    found = run(engine, urls, tmp_path)
    engine.close()
    assert sorted(hostile.requests) == [f"/{number}" for number in range(6)]
    assert [one.get("reason") for one in found] == ["not-found", None] * 3


def test_several_shards_are_in_work_at_once_and_a_slow_one_holds_no_other(hostile: HostileServer) -> None:
    hostile.answers["/slow"] = hang(hostile.closing)
    hostile.answers["/fast"] = reply(JPEG)
    doors = Doors(mapped=dict.fromkeys(("mirror.invalid", "slow.invalid"), ("127.0.0.1", hostile.port)))
    engine = make(hostile, doors=doors, timeout_s=30.0, header_timeout_s=30.0)
    slow = Thread(target=run, args=[engine, ["http://slow.invalid/slow"]], daemon=True)
    slow.start()
    while "/slow" not in hostile.requests:
        time.sleep(0.01)
    assert run(engine, [f"{URL}/fast"])[0]["format"] == "jpeg"
    assert slow.is_alive()
    hostile.closing.set()
    slow.join(10)
    engine.close()

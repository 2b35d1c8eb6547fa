"""No host holds a run, none is asked more often than it bears, and a long wait is never silent."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import pytest

from schemas.quarantine import REASONS
from stages.download.host import Courtesy
from stages.download.names import Doors
from tests.stages.download.fuzzing import odd_head
from tests.stages.download.hostile import Answer, HostileServer, drip, hang, jpeg, raw, reply
from tests.stages.download.test_engine import URL, make, run

JPEG = jpeg()
PICTURES = 20


def pictures(server: HostileServer, count: int = PICTURES) -> list[str]:
    server.answers |= {f"/{number}": reply(JPEG) for number in range(count)}
    return [f"{URL}/{number}" for number in range(count)]


def reasons(found: list[dict[str, Any]]) -> list[str | None]:
    return [one.get("reason") for one in found]


def in_a_window(rows: int, seconds: float, answer: Answer, refusal: Answer) -> Answer:
    """A server's limit: so many requests in so many seconds are answered, the others refused."""
    asked: deque[float] = deque()
    lock = threading.Lock()

    def limited(connection: Any, path: str) -> None:
        with lock:
            now = time.monotonic()
            while asked and asked[0] < now - seconds:
                asked.popleft()
            free = len(asked) < rows
            if free:
                asked.append(now)
        (answer if free else refusal)(connection, path)

    return limited


def test_a_crawl_delay_of_decades_costs_the_rows_of_its_host_and_no_time(hostile: HostileServer) -> None:
    urls = pictures(hostile)
    hostile.answers["/robots.txt"] = reply(b"User-agent: *\nCrawl-delay: 1000000000")
    engine = make(hostile, robots=True)
    found = run(engine, urls)
    engine.close()
    assert reasons(found) == [None] + ["host-slow"] * (PICTURES - 1)
    assert "mirror.invalid asks for pauses" in found[1]["detail"]


def test_a_crawl_delay_is_kept_from_the_first_row_on_whatever_the_rows_give(hostile: HostileServer) -> None:
    hostile.answers["/robots.txt"] = reply(b"User-agent: *\nCrawl-delay: 0.3")
    hostile.answers |= {f"/{number}": reply(status=404) for number in range(4)}
    start = time.monotonic()
    engine = make(hostile, robots=True)
    run(engine, [f"{URL}/{number}" for number in range(4)])
    engine.close()
    assert time.monotonic() - start >= 0.9


def test_a_retry_after_for_every_row_holds_the_run_for_no_longer_than_is_waited(hostile: HostileServer) -> None:
    hostile.answers |= {f"/{number}": reply(status=503, Retry_After="1") for number in range(PICTURES)}
    hostile.answers["/good"] = reply(JPEG)
    doors = Doors(mapped=dict.fromkeys(("mirror.invalid", "good.invalid"), ("127.0.0.1", hostile.port)))
    engine = make(hostile, Courtesy(max_host_s=1.5), {"retries": 2}, doors=doors)
    found = run(engine, [*(f"{URL}/{number}" for number in range(PICTURES)), "http://good.invalid/good"])
    engine.close()
    assert found[-1].get("reason") is None
    assert set(reasons(found[:-1])) == {"http-5xx", "host-slow"}
    assert len(hostile.requests) < PICTURES


def test_a_host_that_asks_for_too_long_a_pause_again_and_again_is_left_alone(hostile: HostileServer) -> None:
    hostile.answers |= {f"/{number}": reply(status=429, Retry_After="3600") for number in range(PICTURES)}
    engine = make(hostile, Courtesy(pause_s=0.0, given_up_after=4, connections=1), {"retries": 2})
    found = run(engine, [f"{URL}/{number}" for number in range(PICTURES)])
    engine.close()
    assert reasons(found) == ["rate-limited"] * 4 + ["host-down"] * (PICTURES - 4)
    assert len(hostile.requests) == 4


def test_no_row_is_lost_at_a_host_that_refuses_what_comes_too_fast(hostile: HostileServer) -> None:
    limited = in_a_window(10, 1.0, reply(JPEG), reply(status=429))
    hostile.answers |= {f"/{number}": limited for number in range(40)}
    engine = make(hostile, Courtesy(pause_s=0.01), {"retries": 2, "backoff_s": 0.1})
    found = run(engine, [f"{URL}/{number}" for number in range(40)])
    engine.close()
    assert reasons(found) == [None] * 40
    assert len(hostile.requests) < 2 * 40


def test_a_row_that_is_always_refused_ends_and_costs_no_other(hostile: HostileServer) -> None:
    urls = pictures(hostile)
    hostile.answers["/3"] = reply(status=429)
    engine = make(hostile, Courtesy(pause_s=0.0), {"retries": 1})
    found = run(engine, urls)
    engine.close()
    assert reasons(found) == ["rate-limited" if url.endswith("/3") else None for url in urls]
    assert found[3]["attempts"] == 2, "the number in the table must not depend on the rows beside it"
    assert hostile.requests.count("/3") <= 14


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_robots_txt_that_fails_is_asked_once_a_span_of_time(hostile: HostileServer, status: int) -> None:
    urls = pictures(hostile, 60)
    hostile.answers["/robots.txt"] = reply(status=status)
    engine = make(hostile, persistence={"retries": 2}, robots=True, robots_again_s=0.1)
    found = run(engine, urls)
    engine.close()
    assert set(reasons(found)) == {"rate-limited" if status == 429 else "http-5xx"}
    assert {one["detail"] for one in found} == {f"robots.txt: status {status}"}
    assert len(hostile.requests) < 12, "every attempt asked for it"


def test_the_retry_after_of_a_robots_txt_counts(hostile: HostileServer) -> None:
    urls = pictures(hostile, 60)
    hostile.answers["/robots.txt"] = reply(status=503, Retry_After="3600")
    engine = make(hostile, persistence={"retries": 2}, robots=True)
    assert set(reasons(run(engine, urls))) == {"http-5xx"}
    engine.close()
    assert hostile.requests == ["/robots.txt"]


def test_a_long_wait_names_the_hosts_that_are_waited_for(
    hostile: HostileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile.answers["/hang"] = hang(hostile.closing)
    hostile.answers["/drip"] = drip(b"HTTP/1.1 200 OK\r\n\r\n" + JPEG[:100], b"x", 0.05, hostile.closing)
    doors = Doors(mapped=dict.fromkeys(("hang.invalid", "drip.invalid", "good.invalid"), ("127.0.0.1", hostile.port)))
    urls = [f"http://good.invalid{url.removeprefix(URL)}" for url in pictures(hostile)]
    engine = make(hostile, persistence={"report_s": 0.4}, doors=doors)
    run(engine, [*urls, *["http://hang.invalid/hang"], "http://drip.invalid/drip"])
    engine.close()
    lines = capsys.readouterr().err.splitlines()
    said = f" of {PICTURES + 2} rows of 1 shards in work are done"
    assert any(said in line and "hang.invalid (1 rows" in line and "drip.invalid (1 rows" in line for line in lines)


def behaviours(server: HostileServer) -> dict[str, tuple[Callable[[int], Answer], set[str | None]]]:
    """How each kind of host answers its rows by their number, and how these may end."""
    cut = b"HTTP/1.1 200 OK\r\n\r\n" + JPEG[:100]
    refusals = reply(status=429), reply(status=429, Retry_After="1")
    limits = [in_a_window(10, 1.0, reply(JPEG), refusal) for refusal in refusals]
    mixed = [reply(JPEG), reply(status=404), reply(status=503), raw(b""), reply(status=429), raw(b"\0\r\n\r\n")]
    chance = random.Random(5)
    known = set(REASONS) - {"stage-error"}
    return {
        "good": (lambda row: reply(JPEG), {None}),
        "hanging": (lambda row: hang(server.closing), {"timeout", "host-down"}),
        "dripping": (lambda row: drip(cut, b"x", 0.05, server.closing), {"timeout", "host-down"}),
        "closing": (lambda row: raw(b""), {"connect", "host-down"}),
        "failing": (lambda row: reply(status=503), {"http-5xx"}),
        "asking-for-a-pause": (lambda row: reply(status=503, Retry_After="59"), {"http-5xx", "host-slow"}),
        "asking-for-an-hour": (lambda row: reply(status=429, Retry_After="3600"), {"rate-limited", "host-down"}),
        "limited": (lambda row: limits[0], {None}),
        "limited-with-a-pause": (lambda row: limits[1], {None}),
        "broken": (lambda row: raw(b"HTTP/1.1 abc\r\n\r\n"), {"bad-answer"}),
        "odd": (lambda row: raw(odd_head(chance) + b"\r\n\r\n" + JPEG), {None, *known}),
        "mixed": (
            lambda row: mixed[row % 6],
            {None, "not-found", "http-5xx", "connect", "rate-limited", "bad-answer"},
        ),
    }


def test_hosts_of_every_kind_at_once_cost_no_good_row_and_each_row_is_accounted_for(hostile: HostileServer) -> None:
    kinds = behaviours(hostile)
    for kind, (answer, _) in kinds.items():
        hostile.answers |= {f"/{kind}/{row}": answer(row) for row in range(12)}
    doors = Doors(mapped={f"{kind}.invalid": ("127.0.0.1", hostile.port) for kind in kinds})
    urls = [f"http://{kind}.invalid/{kind}/{row}" for row in range(12) for kind in kinds]
    courtesy = Courtesy(pause_s=0.01, max_host_s=6.0)
    persistence = {"retries": 2, "backoff_s": 0.25}
    engine = make(hostile, courtesy, persistence, doors=doors, timeout_s=0.8, header_timeout_s=0.6)
    with ThreadPoolExecutor(4) as pool:
        found = list(chain(*pool.map(lambda start: run(engine, urls[start : start + 36]), range(0, len(urls), 36))))
    engine.close()
    ended = {kind: set(reasons(found[number :: len(kinds)])) for number, kind in enumerate(kinds)}
    may = {kind: allowed if None in allowed else allowed | {"timeout"} for kind, (_, allowed) in kinds.items()}
    assert not {
        kind: ended[kind] - may[kind] for kind in kinds if ended[kind] - may[kind]
    }  # a busy machine is slow, too

"""A row that goes wrong in a way that nobody foresaw costs no other row. Foreign text reaches every table."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import integers

from pairloom.errors import RunError
from pipeline.guard import run_guarded
from pipeline.stage import load
from schemas.pairs import PAIRS
from schemas.quarantine import QUARANTINE, REASONS
from schemas.urls import URLS
from stages import download
from stages.download.address import follow, parse
from stages.download.engine import Engine
from stages.download.failure import Failure
from stages.download.fetch import Fetcher
from stages.download.names import Doors
from stages.download.spool import Spool, key_of
from stages.download.statuses import seconds
from tests.stages.download.fuzzing import COUNT, odd_head, odd_url
from tests.stages.download.hostile import Answer, HostileServer, jpeg, raw, reply
from tests.stages.download.test_engine import URL, make, run

JPEG = jpeg()
# Answers to a row that once ended the whole shard with an error of Python, and what becomes of the row.
ODD: dict[str, tuple[Answer, str | None]] = {
    "/location-backslash": (reply(status=302, Location="http://mirror.invalid\\good\\0"), None),
    "/location-bytes": (raw(b"HTTP/1.1 302 x\r\nLocation: /\xfc\xff\r\nContent-Length: 0\r\n\r\n"), None),
    "/retry-after": (reply(status=429, Retry_After="Mon, 01 Jan 99999999999999999999 00:00:00 GMT"), "rate-limited"),
    "/location-idna": (reply(status=302, Location="http://xn--/"), "dns"),
    "/content-type": (raw(b"HTTP/1.1 200 OK\r\nContent-Type: t\xe9xt\r\n\r\nno picture at all"), "not-an-image"),
}


class BugError(RuntimeError):
    pass


def breaking(monkeypatch: pytest.MonkeyPatch, broken: set[str], error: type[BaseException] = BugError) -> None:
    """Plant a bug in fetching that these paths run into."""
    attempt = Fetcher.attempt

    async def planted(self: Fetcher, target: Any) -> Any:
        if target.path in broken:
            raise error(f"on {object()}")
        return await attempt(self, target)

    monkeypatch.setattr(Fetcher, "attempt", planted)


def urls(listed: list[str]) -> Any:
    rows = [[{"text": "a caption", "lang": "en"}]] * len(listed)
    nothing = [None] * len(listed)
    return URLS.table(
        url=listed, captions=rows, licence=nothing, source=nothing, checksum=nothing, extra=[[] for _ in listed]
    )


def serve_good(server: HostileServer, count: int) -> list[str]:
    server.answers |= {f"/good/{number}": reply(jpeg(seed=number)) for number in range(count)}
    return [f"{URL}/good/{number}" for number in range(count)]


def test_odd_urls_and_answers_cost_no_other_row_and_no_second_request(hostile: HostileServer) -> None:
    good = serve_good(hostile, 30)
    hostile.answers |= {path: answer for path, (answer, _) in ODD.items()}
    hostile.answers |= {"/%FC%FF": reply(JPEG), "/images/a.jpg": reply(JPEG)}
    listed = [*good, f"{URL}\\images\\a.jpg", *(f"{URL}{path}" for path in ODD), "http://xn--/", "http://a.example:0/"]
    tools = download.Tools(make(hostile), None, None)
    pairs, rejects = run_guarded(load("download"), [urls(listed)], tools)
    tools.engine.close()
    lost = dict(zip(rejects["key"].to_pylist(), rejects["reason"].to_pylist(), strict=True))
    wanted = {f"{URL}{path}": reason for path, (_, reason) in ODD.items() if reason}
    assert lost == wanted | {"http://xn--/": "dns", "http://a.example:0/": "scheme-refused"}
    assert pairs.num_rows == len(listed) - len(lost)
    for path in [f"/good/{number}" for number in range(1, 30)]:
        assert hostile.requests.count(path) == 1


def test_an_unexpected_error_is_the_outcome_of_its_own_row(
    hostile: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = serve_good(hostile, 12)
    breaking(monkeypatch, {"/good/3", "/good/7"})
    tools = download.Tools(make(hostile), None, None)
    pairs, rejects = run_guarded(load("download"), [urls(good)], tools)
    tools.engine.close()
    assert pairs["url"].to_pylist() == [url for url in good if url[-2:] not in ("/3", "/7")]
    assert rejects["key"].to_pylist() == [good[3], good[7]]
    assert rejects["reason"].to_pylist() == ["stage-error"] * 2
    assert {text.partition(": ")[2] for text in rejects["detail"].to_pylist()} == {"on <object object>"}
    assert sorted(hostile.requests) == sorted(f"/good/{n}" for n in range(12) if n not in (3, 7)), "none asked twice"


@pytest.mark.parametrize(
    "error", [MemoryError, RecursionError, KeyError, asyncio.CancelledError, EOFError, TimeoutError]
)
def test_no_kind_of_error_costs_another_row_or_holds_the_shard(
    hostile: HostileServer, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    good = serve_good(hostile, 6)
    breaking(monkeypatch, {"/good/2"}, error)
    engine = make(hostile)
    found = run(engine, good)
    engine.close()
    assert [one.get("reason") for one in found] == [None, None, "stage-error", None, None, None]
    assert error.__name__ in found[2]["detail"]


def test_an_error_on_most_rows_is_a_bug_that_ends_the_run_and_nothing_of_it_is_noted(
    hostile: HostileServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    good = serve_good(hostile, 6)
    with monkeypatch.context() as patched:
        breaking(patched, {f"/good/{number}" for number in range(4)})
        engine = make(hostile)
        with pytest.raises(RunError, match="most rows of a shard"):
            run(engine, good, tmp_path)
        engine.close()
    with Spool(tmp_path) as spool:
        assert [key_of(url, None) in spool for url in good] == [False] * 4 + [True] * 2
    engine = make(hostile)
    assert [one.get("reason") for one in run(engine, good, tmp_path)] == [None] * 6
    engine.close()


def test_one_shards_bad_rows_cost_no_row_of_another_shard(
    hostile: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = serve_good(hostile, 8)
    breaking(monkeypatch, {"/good/0"})
    engine = make(hostile)
    for shard in (good[:4], good[4:]):
        found = run(engine, shard)
        assert [one.get("reason") for one in found] == ["stage-error" if url == good[0] else None for url in shard]
    engine.close()


def drawn(seed: int, few: int, many: int) -> list[random.Random]:
    """Generators for `few` cases, or for `many` when the fuzz is asked for by its environment variable."""
    return [random.Random(f"{seed}/{number}") for number in range(many or few)]


@given(seed=integers(0, 2**32))
def test_any_odd_url_is_parsed_or_refused_and_so_is_any_location(seed: int) -> None:
    base = parse("http://a.example/one/two.jpg")
    for chance in drawn(seed, 20, COUNT // 100):
        url = odd_url(chance)
        for take in (parse, lambda location: follow(base, location)):
            try:
                target = take(url)
            except Failure:
                continue
            assert target.url.isascii()
            assert "\\" not in target.url
            assert not {".", ".."} & set(target.path.partition("?")[0].split("/"))
            assert parse(target.url) == target


@given(seed=integers(0, 2**32))
def test_any_retry_after_is_a_time_or_nothing(seed: int) -> None:
    for chance in drawn(seed, 20, COUNT // 100):
        value = odd_head(chance).decode("utf-8", "surrogateescape").rpartition(": ")[2]
        wait = seconds(value)
        assert wait is None or wait >= 0


def test_no_answer_whatever_its_headers_costs_another_row_or_the_table(hostile: HostileServer) -> None:
    heads = [odd_head(chance) for chance in drawn(17, 400, COUNT)]
    hostile.answers |= {f"/{number}": raw(head + b"\r\n\r\n" + JPEG) for number, head in enumerate(heads)}
    hostile.answers["/picture"] = reply(JPEG)
    good = serve_good(hostile, 20)
    names = ["mirror.invalid", *(f"h{number}.invalid" for number in range(len(heads) // 4))]
    listed = [*(f"http://h{number // 4}.invalid/{number}" for number in range(len(heads))), *good]
    doors = Doors(mapped=dict.fromkeys(names, ("127.0.0.1", hostile.port)))
    engine: Engine = make(hostile, persistence={"max_wait_s": 0.0}, doors=doors)
    pairs, rejects = download.process(urls(listed), download.Tools(engine, None, None))
    engine.close()
    PAIRS.check(pairs, where="test")
    QUARANTINE.check(rejects, where="test")
    assert [row for row in rejects.to_pylist() if row["key"] in good] == []
    assert set(good) <= set(pairs["url"].to_pylist())
    assert pairs.num_rows + rejects.num_rows == len(listed)
    assert set(rejects["reason"].to_pylist()) <= set(REASONS) - {"stage-error"}

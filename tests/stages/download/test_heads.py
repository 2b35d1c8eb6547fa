"""Answers that break the rules of HTTP: what is meant is taken, the rest is named, and none of it is silence."""

from __future__ import annotations

import random
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import binary, integers, lists, sampled_from

from stages.download.heads import repaired
from tests.stages.download.fetching import get, outcomes, refused
from tests.stages.download.fuzzing import odd_head
from tests.stages.download.hostile import Answer, HostileServer, endless, in_turn, jpeg, raw, reply
from tests.stages.download.test_engine import URL, make, run

JPEG = jpeg()
OK, SIZE, CHUNKED = b"HTTP/1.1 200 OK\r\n", b"Content-Length: %d\r\n" % len(JPEG), b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(JPEG), JPEG)
# Each sends the picture. Once they ended as `connect`, after twelve as `host-down: gave no answer`.
MEANT = {
    "equal lengths": OK + SIZE + SIZE + b"\r\n" + JPEG,
    "a list of equal lengths": OK + b"Content-Length: %d, %d\r\n\r\n" % (len(JPEG), len(JPEG)) + JPEG,
    "an empty length": OK + b"Content-Length:\r\n\r\n" + JPEG,
    "a header of 9,000 bytes": OK + SIZE + b"X-A: " + b"a" * 9000 + b"\r\n\r\n" + JPEG,
    "a header of 60,000 bytes": OK + SIZE + b"X-A: " + b"a" * 60_000 + b"\r\n\r\n" + JPEG,
    "150 headers": OK + SIZE + b"".join(b"X-%d: a\r\n" % number for number in range(150)) + b"\r\n" + JPEG,
    "bytes after the body": OK + SIZE + b"\r\n" + JPEG + b"rubbish\r\n\r\n",
    "bytes after the chunks": OK + CHUNKED + b"\r\n" + CHUNKS + b"rubbish",
    "chunks and a length": OK + SIZE + CHUNKED + b"\r\n" + CHUNKS,
    "the encoding identity and a length": OK + SIZE + b"Transfer-Encoding: identity\r\n\r\n" + JPEG,
    "a header without a colon": OK + SIZE + b"nonsense here\r\n\r\n" + JPEG,
    "a name that is none": OK + SIZE + b"X-\xe9: a\r\n: b\r\nX A: c\r\n\r\n" + JPEG,
    "a space before the colon": OK + SIZE + b"X-A : a\r\n\r\n" + JPEG,
    "NUL in a header": OK + SIZE + b"X-A: a\0b\r\n\r\n" + JPEG,
    "a folded header": OK + SIZE + b"X-A: a\r\n b\r\n\r\n" + JPEG,
    "HTTP/2 200": b"HTTP/2 200\r\n" + SIZE + b"\r\n" + JPEG,
    "HTTP/1.1 200 without a reason": b"HTTP/1.1 200\r\n" + SIZE + b"\r\n" + JPEG,
    "lower case": b"http/1.1 200 ok\r\n" + SIZE + b"\r\n" + JPEG,
    "ICY": b"ICY 200 OK\r\n\r\n" + JPEG,
    "line feeds alone": (OK + SIZE + b"\r\n").replace(b"\r", b"") + JPEG,
    "an empty line before": b"\r\n" + OK + SIZE + b"\r\n" + JPEG,
    "early hints before": b"HTTP/1.1 103 x\r\nLink: a\r\nnonsense\r\n\r\n" + OK + SIZE + SIZE + b"\r\n" + JPEG,
}
BROKEN = {
    "lengths that differ": OK + SIZE + b"Content-Length: 5\r\n\r\n" + JPEG,
    "a negative length": OK + b"Content-Length: -5\r\n\r\n" + JPEG,
    "no head": JPEG,
    "a status that is none": b"HTTP/1.1 abc\r\n\r\n",
    "a status below 100": b"HTTP/1.1 99 x\r\n\r\n",
    "nonsense": b"\0\1\2\3 nonsense\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "a chunk size that is none": OK + CHUNKED + b"\r\nzz\r\n" + JPEG,
    "a later chunk size that is none": OK + CHUNKED + b"\r\n20\r\n" + JPEG[:32] + b"\r\nzz\r\n",
    "a head of 100,000 bytes in one line": OK + b"X: " + b"a" * 100_000 + b"\r\n\r\n" + JPEG,
}


def in_pieces(data: bytes) -> Answer:
    """The same bytes in small packets, so that no reader finds a head and a body together."""

    def answer(connection: Any, path: str) -> None:
        for start in range(0, len(data), 200):
            connection.sendall(data[start : start + 200])
            if start < 2000:
                time.sleep(0.002)

    return answer


@pytest.mark.parametrize("kind", MEANT)
def test_a_picture_that_comes_with_a_broken_head_is_taken_however_it_is_cut(hostile: HostileServer, kind: str) -> None:
    hostile.answers |= {"/whole": raw(MEANT[kind]), "/pieces": in_pieces(MEANT[kind])}
    assert get(hostile, "/whole").body == JPEG
    assert get(hostile, "/pieces").body == JPEG


@pytest.mark.parametrize("kind", BROKEN)
def test_an_answer_that_nobody_understands_has_its_own_reason_and_is_asked_for_once(
    hostile: HostileServer, kind: str
) -> None:
    hostile.answers |= {"/whole": raw(BROKEN[kind]), "/pieces": in_pieces(BROKEN[kind])}
    whole, pieces = refused(hostile, "/whole", retries=2), refused(hostile, "/pieces", retries=2)
    assert (whole.reason, whole.attempts) == ("bad-answer", 1)
    assert (pieces.reason, pieces.detail) == (whole.reason, whole.detail), "it must not depend on the packets"
    assert hostile.requests == ["/whole", "/pieces"]


def test_endless_headers_are_named_although_each_is_short(hostile: HostileServer) -> None:
    hostile.answers["/x"] = endless(OK, b"X-A: b\r\n")
    assert refused(hostile, "/x").reason == "bad-answer"


def test_broken_answers_are_no_silence(hostile: HostileServer) -> None:
    hostile.answers |= {f"/{number}": raw(BROKEN["lengths that differ"]) for number in range(30)}
    hostile.answers["/30"] = reply(JPEG)
    found = outcomes(hostile, [f"{URL}/{number}" for number in range(31)])
    assert [one.get("reason") for one in found] == ["bad-answer"] * 30 + [None]


def test_an_opt_out_in_a_broken_head_counts(hostile: HostileServer) -> None:
    for tag in (b"X-Robots-Tag : noai", b"X-Robots-Tag:\r\n noai", b"x-robots-tag: noai\0"):
        hostile.answers["/x"] = raw(OK + SIZE + b"nonsense\r\n" + tag + b"\r\n\r\n" + JPEG)
        assert refused(hostile, "/x").reason == "opt-out"


def test_what_comes_behind_a_body_spoils_no_other_row(hostile: HostileServer) -> None:
    """The connection that it came over is not used again, or the next row asks again over another."""

    def late(connection: Any, path: str) -> None:
        connection.sendall(OK + SIZE + b"\r\n" + JPEG)
        time.sleep(0.02)
        connection.sendall(b"HTTP/1.1 abc\r\n\r\n" * 3)
        connection.recv(65536)

    hostile.answers |= {f"/{number}": late for number in range(12)}
    engine = make(hostile)
    for number in range(12):
        (found,) = run(engine, [f"{URL}/{number}"])
        assert found.get("reason") is None
        time.sleep(0.01 * (number % 5))
    engine.close()


def test_a_connection_with_whole_answers_is_used_again(hostile: HostileServer) -> None:
    def two(connection: Any, path: str) -> None:
        for _ in range(2):
            connection.sendall(OK + SIZE + b"\r\n" + JPEG)
            connection.recv(65536)

    hostile.answers |= {"/1": in_turn(two), "/2": in_turn(reply(status=500))}
    engine = make(hostile)
    assert [run(engine, [f"{URL}/{number}"])[0].get("reason") for number in (1, 2)] == [None, None]
    engine.close()
    assert hostile.requests == ["/1"]


LINES = [
    b"Content-Length: 5", b"Content-Length: 5", b"Content-Length: 6", b"Transfer-Encoding: chunked", b"nonsense",
    b" folded", b"X-A: b", b"Connection: keep-alive", b"X-B : c", b"X-\xff: d", b"Content-Length:",
    b"Transfer-Encoding: identity",
]  # fmt: skip


@given(drawn=lists(sampled_from(LINES), max_size=8), seed=integers(0, 1 << 32))
def test_a_mended_head_is_mended_and_says_one_length(drawn: list[bytes], seed: int) -> None:
    plain = b"\r\n".join([b"HTTP/1.1 200 OK", *drawn, b"", b""])
    for head in (plain, odd_head(random.Random(seed)) + b"\r\n\r\n"):
        once = repaired(head)
        assert repaired(once) == once
        assert once.endswith(b"\r\n\r\n")
        if re.search(rb"(?i)\r\ntransfer-encoding: *chunked", once):
            assert b"content-length" not in once.lower()


@given(binary(max_size=200))
def test_any_bytes_are_mended_or_left(head: bytes) -> None:
    assert repaired(head + b"\r\n\r\n")


def test_a_head_without_fault_keeps_every_byte() -> None:
    head = OK + SIZE + b"Connection: keep-alive\r\nX-A: b\r\nX-A: c\r\n\r\n"
    assert repaired(head) == head

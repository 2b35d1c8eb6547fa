"""Reservations are heeded however their owners spell them, and nothing else is taken for one."""

from __future__ import annotations

import codecs
import gzip
import random

import pytest
from hypothesis import given
from hypothesis.strategies import binary, booleans, lists, sampled_from

from stages.download.optout import DIRECTIVES, opt_out, read_robots, reserved
from tests.stages.download.fetching import outcomes, refused
from tests.stages.download.hostile import HostileServer, endless, jpeg, raw, reply
from tests.stages.download.test_engine import URL

JPEG = jpeg()
ROBOT = "pairloom/0.1 (someone)"
DATES = [
    "25 Jun 2031 15:00:00 PST", "Wed, 25 Jun 2031 15:00:00 GMT", "Wednesday, 25-Jun-31 15:00:00 GMT",
    "2031-06-25T15:00:00+00:00", "Wed Jun 25 15:00:00 2031", "2031-06-25",
]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ([], None),
        (["noai"], "noai"),
        (["index, NoImageAI"], "noimageai"),
        (["max-snippet: 20, noml"], "noml"),
        (["nofollow", "none"], "none"),
        (["otherbot: noindex, noai"], None),
        (["otherbot: noindex; noai"], None),
        (["otherbot/2.0: noai"], None),
        (["otherbot: noindex, pairloom: noai"], "noai"),
        (["pairloom: noimageindex"], "noimageindex"),
        (["pairloom/0.1: noai"], "noai"),
        (["PairLoom/7 : noai"], "noai"),
        (["*: noai"], "noai"),
        (["noindex; noai"], "noindex"),
        (["follow; noai"], "noai"),
        (["all, follow"], None),
        (["noaidea, no ai, ai"], None),
        *(([f"unavailable_after: {date}"], None) for date in DATES),
        *(([f"unavailable_after: {date}, noai"], "noai") for date in DATES),
        *(([f"noai, unavailable_after: {date}"], "noai") for date in DATES),
        *(([f"otherbot: unavailable_after: {date}, noai"], None) for date in DATES),
        *(([f"pairloom: unavailable_after: {date}; noai"], "noai") for date in DATES),
    ],
)
def test_opt_outs_are_read_for_all_robots_and_for_this_one(values: list[str], word: str | None) -> None:
    assert opt_out(values, ROBOT) == word


HARMLESS = ["index", "follow", "nofollow", "max-snippet:-1", "max-image-preview: large", "noarchive", *(
    f"unavailable_after: {date}" for date in DATES
)]  # fmt: skip


@given(others=lists(sampled_from(HARMLESS), max_size=6), word=sampled_from(DIRECTIVES), to_us=booleans())
def test_a_directive_counts_wherever_it_stands(others: list[str], word: str, to_us: bool) -> None:
    parts = [*others, word.upper()]
    random.Random(str(parts)).shuffle(parts)
    assert opt_out([("pairloom/2: " if to_us else "") + ", ".join(parts)], ROBOT) == word
    assert opt_out([", ".join(others)], ROBOT) is None
    assert opt_out(["otherbot: " + ", ".join(parts)], ROBOT) is None


def test_a_tdm_reservation_is_an_opt_out_whichever_header_has_it(hostile: HostileServer) -> None:
    assert [reserved(values) for values in ([], ["0"], ["1"], ["0", "1"], [" 1 "], ["0, 1"], ["10"], ["0;1"])] == [
        False, False, True, True, True, True, False, True
    ]  # fmt: skip
    hostile.answers["/1.jpg"] = reply(JPEG, TDM_Reservation="1")
    hostile.answers["/0.jpg"] = reply(JPEG, TDM_Reservation="0")
    size = b"Content-Length: %d\r\n" % len(JPEG)
    both = b"HTTP/1.1 200 OK\r\n" + size + b"TDM-Reservation: 0\r\nTDM-Reservation: 1\r\n\r\n" + JPEG
    hostile.answers["/01.jpg"] = raw(both)
    found = outcomes(hostile, [f"{URL}/{name}.jpg" for name in ("1", "0", "01")])
    assert [one.get("reason") for one in found] == ["opt-out", None, "opt-out"]


def test_an_opt_out_is_honoured_before_the_body_is_read(hostile: HostileServer) -> None:
    hostile.answers["/x"] = endless(b"HTTP/1.1 200 OK\r\nX-Robots-Tag: noai\r\n\r\n", JPEG)
    failure = refused(hostile, "/x", retries=2)
    assert (failure.reason, failure.attempts) == ("opt-out", 1)


@pytest.mark.parametrize("header", [b"X-Robots-Tag: noai", b"TDM-Reservation: 1"])
def test_an_opt_out_of_a_redirect_counts_and_its_goal_is_not_asked(hostile: HostileServer, header: bytes) -> None:
    hostile.answers["/away"] = raw(b"HTTP/1.1 302 Found\r\nLocation: /goal\r\n" + header + b"\r\n\r\n")
    hostile.answers["/goal"] = reply(JPEG)
    assert refused(hostile, "/away").reason == "opt-out"
    assert hostile.requests == ["/away"]


RULES = "User-agent: *\nDisallow: /private\n"
SPELLED = {
    "plain": RULES.encode(),
    "a byte order mark": codecs.BOM_UTF8 + RULES.encode(),
    "UTF-16": RULES.encode("utf-16"),
    "UTF-16, the other way round": codecs.BOM_UTF16_BE + RULES.encode("utf-16-be"),
    "our name": RULES.replace("*", "pairloom").encode(),
    "our name and version": RULES.replace("*", "pairloom/0.1").encode(),
    "another version and a comment": RULES.replace("*", "PairLoom/7.2 # the new one").encode(),
    "a version after a mark": codecs.BOM_UTF8 + RULES.replace("*", "Pairloom/0.1").encode(),
    "old line ends": RULES.replace("\n", "\r").encode(),
    "spaces": b" User-agent : *\n Disallow : /private\n",
    "NUL": RULES.replace("/private", "/private\0").encode(),
}


PRIVATE = ("/private/x", "/pub/../private/x", "/%70rivate/x", "/./private/x", "/a/%2e%2E/private/x")


@pytest.mark.parametrize("kind", SPELLED)
def test_robots_txt_is_heeded_however_it_and_the_path_are_spelled(hostile: HostileServer, kind: str) -> None:
    hostile.answers |= {"/robots.txt": reply(SPELLED[kind]), "/open": reply(JPEG)}
    found = outcomes(hostile, [f"{URL}{path}" for path in (*PRIVATE, "/open")], robots=True)
    assert [one.get("reason") for one in found] == ["opt-out"] * len(PRIVATE) + [None]
    assert set(hostile.requests) == {"/robots.txt", "/open"}


PACKED = {"plain": RULES.encode(), "gzip": gzip.compress(RULES.encode()), "cut": gzip.compress(RULES.encode())[:-4]}


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("label", ["gzip", "deflate", "br", "nonsense", "identity"])
def test_robots_txt_is_heeded_however_it_is_labelled(hostile: HostileServer, packed: str, label: str) -> None:
    hostile.answers |= {"/robots.txt": reply(PACKED[packed], Content_Encoding=label), "/private/x": reply(JPEG)}
    found = outcomes(hostile, [f"{URL}/private/x"], robots=True)
    assert [one.get("reason") for one in found] == ["opt-out"]


def test_a_robots_txt_behind_a_broken_answer_allows_nothing(hostile: HostileServer) -> None:
    hostile.answers |= {"/robots.txt": raw(b"HTTP/1.1 abc\r\n\r\n"), "/open": reply(JPEG)}
    (found,) = outcomes(hostile, [f"{URL}/open"], robots=True)
    assert (found["reason"], found["detail"][:10]) == ("bad-answer", "robots.txt")
    assert "/open" not in hostile.requests


def test_another_robots_rules_are_not_ours(hostile: HostileServer) -> None:
    hostile.answers |= {"/robots.txt": reply(RULES.replace("*", "otherbot/1.0").encode()), "/private/x": reply(JPEG)}
    (found,) = outcomes(hostile, [f"{URL}/private/x"], robots=True)
    assert found.get("reason") is None


@given(binary(max_size=300))
def test_any_bytes_are_read_as_a_robots_txt(body: bytes) -> None:
    assert isinstance(read_robots(body), str)

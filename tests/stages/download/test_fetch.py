"""The fetcher against a server that breaks every rule: how each misbehaviour ends, and how soon."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import socket
import ssl
import subprocess
import time
import zlib
from pathlib import Path

import pytest

from stages.download import wire
from stages.download.address import Target
from stages.download.decoder import verified
from stages.download.failure import Failure
from stages.download.fetch import Fetched
from stages.download.names import Doors
from tests.stages.download.fetching import JPEG, LONG, fetch, get, outcomes, refused
from tests.stages.download.hostile import HostileServer, drip, endless, in_turn, raw, reply


def test_a_picture_arrives_whole_with_its_sha256_and_kind(hostile: HostileServer) -> None:
    hostile.answers["/a.jpg?x=1"] = reply(JPEG, Content_Type="text/html")  # a wrong label is no reason to refuse
    fetched = get(hostile, "/a.jpg?x=1")
    assert fetched == Fetched(JPEG, "jpeg")
    head = hostile.heads[0].decode()
    assert "Host: mirror.invalid\r\n" in head
    assert "User-Agent: pairloom/0 (test)\r\n" in head


@pytest.mark.parametrize(
    ("status", "reason", "asked"),
    [(404, "not-found", 1), (410, "not-found", 1), (401, "http-4xx", 1), (403, "http-4xx", 1), (304, "http-4xx", 1),
     (204, "not-an-image", 1), (429, "rate-limited", 3), (500, "http-5xx", 3), (503, "http-5xx", 3),
     (408, "http-again", 3), (425, "http-again", 3), (600, "http-4xx", 1), (999, "http-4xx", 1), (302, "http-4xx", 1)],
)  # fmt: skip
def test_a_status_has_its_reason_and_only_temporary_ones_are_asked_again(
    hostile: HostileServer, status: int, reason: str, asked: int
) -> None:
    hostile.answers["/x"] = reply(status=status)
    failure = refused(hostile, "/x", retries=2)
    assert (failure.reason, failure.attempts, len(hostile.requests)) == (reason, asked, asked)


def test_a_server_that_recovers_is_asked_until_it_answers(hostile: HostileServer) -> None:
    hostile.answers["/x"] = in_turn(reply(status=503), reply(status=500), reply(JPEG))
    (found,) = outcomes(hostile, ["http://mirror.invalid/x"], retries=2)
    assert (found["sha256"], found["attempts"]) == (hashlib.sha256(JPEG).hexdigest(), 3)


def test_the_pause_before_a_retry_doubles_give_or_take_a_half(hostile: HostileServer) -> None:
    hostile.answers["/x"] = reply(status=500)
    start = time.monotonic()
    refused(hostile, "/x", retries=2, backoff_s=0.1)
    assert time.monotonic() - start >= 0.15


def test_redirects_are_followed_and_their_number_is_limited(hostile: HostileServer) -> None:
    hostile.answers["/1"] = reply(status=301, Location="/2")
    hostile.answers["/2"] = reply(status=307, Location="http://mirror.invalid/3")
    hostile.answers["/3"] = reply(JPEG)
    hostile.answers["/loop"] = reply(status=302, Location="/loop")
    assert get(hostile, "/1").body == JPEG
    assert refused(hostile, "/loop", retries=2).reason == "redirect-limit"
    assert hostile.requests.count("/loop") == 4


def test_a_location_may_hold_raw_bytes(hostile: HostileServer) -> None:
    for number, name in enumerate(("/ü 日本.jpg".encode(), "/ü.jpg".encode("latin-1"), b"\\a\\..\\\xff\xc3\xbc")):
        hostile.answers[f"/{number}"] = raw(b"HTTP/1.1 301 x\r\nLocation: " + name + b"\r\nContent-Length: 0\r\n\r\n")
    hostile.answers |= dict.fromkeys(("/%C3%BC%20%E6%97%A5%E6%9C%AC.jpg", "/%FC.jpg", "/%FF%C3%BC"), reply(JPEG))
    assert [get(hostile, f"/{number}").body for number in range(3)] == [JPEG] * 3


def test_a_choice_is_followed_and_a_redirect_to_nowhere_is_named(hostile: HostileServer) -> None:
    hostile.answers |= {"/300": reply(status=300, Location="/x"), "/x": reply(JPEG), "/302": reply(status=302)}
    hostile.answers |= {"/none": reply(status=300), "/0": reply(status=302, Location="http://mirror.invalid:0/x")}
    assert get(hostile, "/300").body == JPEG
    assert refused(hostile, "/302").detail == "status 302 without a Location"
    assert refused(hostile, "/none").reason == "http-4xx"
    zero = refused(hostile, "/0")
    assert (zero.reason, zero.detail) == ("scheme-refused", "redirected: the port is 0")


OK = b"HTTP/1.1 200 OK\r\n"
SLOW = {
    "no answer": (b"", b""),
    "headers drop by drop": (OK, b"X-A: b\r\n"),
    "one endless header line": (OK + b"X: ", b"a"),
    "continue for ever": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body drop by drop": (OK + b"Content-Length: 100000\r\n\r\n" + JPEG[:100], b"x"),
    "chunks drop by drop": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n\xff\r\n"),
}


@pytest.mark.parametrize("kind", SLOW)
def test_a_slow_server_is_left_at_the_deadline(hostile: HostileServer, kind: str) -> None:
    first, piece = SLOW[kind]
    hostile.answers["/slow"] = drip(first, piece, 0.05, hostile.closing)
    start = time.monotonic()
    failure = refused(hostile, "/slow", timeout_s=0.5)
    assert failure.reason in ("timeout", "not-an-image")  # dripped bytes may show that this is no picture
    assert time.monotonic() - start < LONG  # the server would go on for ever


def test_endless_headers_end_early(hostile: HostileServer) -> None:
    hostile.answers["/x"] = endless(OK, b"X-A: " + b"b" * 1000 + b"\r\n")
    assert refused(hostile, "/x").reason == "bad-answer"


def test_a_body_beyond_the_limit_is_refused_announced_or_not(hostile: HostileServer) -> None:
    head = JPEG[:100]
    hostile.answers["/announced"] = endless(OK + b"Content-Length: 999999999\r\n\r\n" + head, b"x" * 65536)
    hostile.answers["/silent"] = endless(OK + b"\r\n" + head, b"x" * 65536)
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    hostile.answers["/chunked"] = endless(OK + b"Transfer-Encoding: chunked\r\n\r\n64\r\n" + head + b"\r\n", chunk)
    for path in ("/announced", "/silent", "/chunked"):
        assert refused(hostile, path, retries=2).reason == "body-limit"
        assert hostile.requests.count(path) == 1


def test_gzip_is_undone_and_its_bombs_are_refused(hostile: HostileServer) -> None:
    hostile.answers["/gzip"] = reply(gzip.compress(JPEG), Content_Encoding="gzip")
    hostile.answers["/deflate"] = reply(zlib.compress(JPEG), Content_Encoding="deflate")
    bomb = gzip.compress(JPEG[:100] + bytes(200 << 20))
    assert len(bomb) < 1 << 20
    hostile.answers["/bomb"] = reply(bomb, Content_Encoding="gzip")
    hostile.answers["/cut"] = reply(gzip.compress(JPEG)[:-20], Content_Encoding="gzip")
    hostile.answers["/not"] = reply(JPEG, Content_Encoding="gzip")
    assert get(hostile, "/gzip").body == get(hostile, "/deflate").body == JPEG
    assert refused(hostile, "/bomb").reason == "body-limit"
    assert refused(hostile, "/cut").reason == "connect"
    assert get(hostile, "/not").body == JPEG  # a wrong label is no reason to refuse


def test_a_body_that_breaks_off_is_a_connection_failure(hostile: HostileServer) -> None:
    hostile.answers["/length"] = raw(OK + b"Content-Length: 5000\r\n\r\n" + JPEG[:500])
    hostile.answers["/chunk"] = raw(OK + b"Transfer-Encoding: chunked\r\n\r\n1000\r\n" + JPEG[:500])
    for path in ("/length", "/chunk"):
        failure = refused(hostile, path, retries=1)
        assert (failure.reason, failure.attempts) == ("connect", 2)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nX", OK + b"Content-Length: 99\r\n\r\n\xff\xd8"])
def test_what_ends_before_the_answer_does_is_a_connection_failure(hostile: HostileServer, answer: bytes) -> None:
    hostile.answers["/x"] = raw(answer)
    assert refused(hostile, "/x").reason == "connect"


def test_a_refused_connection_is_a_connection_failure(hostile: HostileServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    failure = refused(hostile, "/x", doors=Doors(mapped={"mirror.invalid": ("127.0.0.1", port)}))
    assert failure.reason == "connect"
    assert str(port) not in failure.detail, "a table must not depend on a port"


HTML = b"<!doctype html><html><body>Sorry, this picture has moved.</body></html>"


@pytest.mark.parametrize("body", [HTML, b"", b"\xff", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7 " * 9])
def test_a_body_that_is_no_picture_is_refused_whatever_its_label(hostile: HostileServer, body: bytes) -> None:
    hostile.answers["/x.jpg"] = reply(body, Content_Type="image/jpeg")
    failure = refused(hostile, "/x.jpg", retries=2)
    assert (failure.reason, failure.attempts) == ("not-an-image", 1)


def test_a_long_page_is_not_read_to_its_end(hostile: HostileServer) -> None:
    hostile.answers["/x"] = endless(OK + b"\r\n", HTML)
    assert refused(hostile, "/x").reason == "not-an-image"


def test_checksums_are_verified() -> None:
    right = {"sha256": hashlib.sha256(JPEG).hexdigest(), "md5": hashlib.md5(JPEG).hexdigest()}
    for name, value in right.items():
        assert verified(JPEG, f"{name}:{value}") == hashlib.sha256(JPEG).digest()
        assert verified(JPEG, f"{name.upper()}:{value.upper()}") == hashlib.sha256(JPEG).digest()
        with pytest.raises(Failure, match=f"{name} is {value}"):
            verified(JPEG, f"{name}:{'0' * len(value)}")
    with pytest.raises(Failure, match="neither"):
        verified(JPEG, "crc32:00000000")


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A self-signed certificate for mirror.invalid and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    pem, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=mirror.invalid", "-addext", "subjectAltName=DNS:mirror.invalid", "-keyout", key, "-out", pem],
        check=True, capture_output=True,
    )  # fmt: skip
    return pem, key


def test_tls_is_verified_against_the_name_in_the_url(
    hostile: HostileServer, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    hostile.tls = context
    hostile.answers["/x"] = reply(JPEG)
    doors = Doors(mapped=dict.fromkeys(("mirror.invalid", "other.invalid"), ("127.0.0.1", hostile.port)))
    (unknown,) = outcomes(hostile, ["https://mirror.invalid/x"], retries=2, doors=doors)
    assert (unknown["reason"], unknown["attempts"]) == ("tls", 1)
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    monkeypatch.setattr(wire, "tls", lambda: trusting)
    assert fetch(hostile, "https://mirror.invalid/x", doors=doors).body == JPEG
    with pytest.raises(Failure) as wrong_name:
        fetch(hostile, "https://other.invalid/x", doors=doors)
    assert wrong_name.value.reason == "tls"


def test_a_plain_server_behind_https_is_refused(hostile: HostileServer) -> None:
    target = Target("https", "mirror.invalid", 443, "/x")
    with pytest.raises(Failure) as failure:
        fetch(hostile, target.url, timeout_s=0.5)
    assert failure.value.reason in ("tls", "connect", "timeout")

"""Which hosts a fetch may reach: no address inside, whatever a name, a spelling or a redirect says."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from stages.download.failure import Failure
from stages.download.names import Doors
from tests.stages.download.fetching import JPEG, LONG, fetch, outcomes, refused
from tests.stages.download.hostile import HostileServer, reply


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0177.0.0.1", "0x7f.1", "127.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0",
     "[::]", "[64:ff9b::7f00:1]"],
)  # fmt: skip
def test_a_local_address_is_refused_in_every_spelling_direct_and_by_redirect(hostile: HostileServer, host: str) -> None:
    hostile.answers["/secret"] = reply(JPEG)
    hostile.answers["/away"] = reply(status=302, Location=hostile.url("/secret", host))
    with pytest.raises(Failure) as direct:
        fetch(hostile, hostile.url("/secret", host))
    assert direct.value.reason == "address-refused"
    redirected = refused(hostile, "/away")
    assert redirected.reason == direct.value.reason
    assert redirected.detail.startswith("redirected: ")
    assert "/secret" not in hostile.requests


def test_metadata_addresses_are_refused_without_a_connection(hostile: HostileServer) -> None:
    for host in ("169.254.169.254", "100.100.100.200", "168.63.129.16", "[fd00:ec2::254]"):
        hostile.answers["/away"] = reply(status=302, Location=f"http://{host}/latest/meta-data/")
        assert refused(hostile, "/away").reason in ("address-refused", "dns")


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://a.example/x", "http://u:secret@mirror.invalid/x"])
def test_a_redirect_to_another_scheme_or_with_credentials_is_refused(hostile: HostileServer, location: str) -> None:
    hostile.answers["/away"] = reply(status=302, Location=location)
    failure = refused(hostile, "/away")
    assert failure.reason == "scheme-refused"
    assert "secret" not in str(failure)


def test_hosts_are_allowed_by_name_or_by_name_and_port(hostile: HostileServer) -> None:
    hostile.answers["/x"] = reply(JPEG)
    url = hostile.url("/x")
    for allowed in ("127.0.0.1", f"127.0.0.1:{hostile.port}"):
        assert fetch(hostile, url, doors=Doors(frozenset({allowed}))).body == JPEG
    with pytest.raises(Failure, match="loopback"):
        fetch(hostile, url, doors=Doors(frozenset({"127.0.0.1:1"})))


def answering(answers: list[list[str]], asked: list[str]) -> Any:
    """A getaddrinfo that gives these addresses, look-up by look-up."""

    def look_up(host: str, port: int | None, **_: object) -> list[tuple[object, ...]]:
        asked.append(host)
        found = answers[len(asked) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port or 0)) for address in found]

    return look_up


def test_a_name_is_looked_up_once_and_the_checked_address_is_the_one_connected_to(
    hostile: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    connected = []
    # A rebinding name: harmless when checked, local afterwards.
    look_up = answering([["93.184.216.34"], ["127.0.0.1"]], asked)

    def refuse(self: Doors, info: tuple[Any, ...]) -> socket.socket:
        connected.append(info[4])
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(Doors, "open_socket", refuse)
    with pytest.raises(Failure) as failure:
        fetch(hostile, "http://rebind.example/x")
    assert failure.value.reason == "connect"
    assert (asked, connected) == (["rebind.example"], [("93.184.216.34", 80)])


def test_no_socket_is_opened_to_an_inside_address_that_was_not_let_in_by_name() -> None:
    doors = Doors(frozenset({"mirror.example"}))
    doors.admit("mirror.example", 80, ["127.0.0.1"])
    doors.open_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))).close()
    for address in (("127.0.0.1", 81), ("10.0.0.1", 80), ("169.254.169.254", 80)):
        with pytest.raises(PermissionError):
            doors.open_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", address))


def test_one_inside_address_among_public_ones_is_enough_to_refuse(
    hostile: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", answering([["93.184.216.34", "10.0.0.1"]], []))
    with pytest.raises(Failure, match=r"10\.0\.0\.1"):
        fetch(hostile, "http://mixed.example/x")


def test_an_unknown_host_is_a_dns_failure_and_tried_again(
    hostile: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    (found,) = outcomes(hostile, ["http://nowhere.invalid/x"], retries=1)
    assert (found["reason"], found["attempts"]) == ("dns", 2)


@pytest.mark.parametrize("host", ["a" * 70 + ".example", "a..example", ".example"])
def test_an_impossible_host_name_is_a_dns_failure(hostile: HostileServer, host: str) -> None:
    (found,) = outcomes(hostile, [f"http://{host}/x"])
    assert found["reason"] == "dns"


def test_a_resolver_that_hangs_is_bounded_by_the_deadline(
    hostile: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: hostile.closing.wait(2 * LONG) and [])
    start = time.monotonic()
    with pytest.raises(Failure) as failure:
        fetch(hostile, "http://slow.example/x", timeout_s=0.3)
    hostile.closing.set()
    assert failure.value.reason == "timeout"
    assert time.monotonic() - start < LONG

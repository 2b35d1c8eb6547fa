"""Look-ups: an overloaded or silent name server is named, and waiting for a turn is no host's fault. Proxies."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest

from pairloom.errors import ConfigError
from stages import download
from stages.download import names
from stages.download.address import door, parse
from stages.download.failure import Failure
from stages.download.names import Doors
from stages.download.proxies import refuse_proxy
from tests.stages.download.fetching import fetch, outcomes
from tests.stages.download.hostile import HostileServer, jpeg, reply


def slowly(seconds: float, busy: list[int]) -> Any:
    """A getaddrinfo that takes its time and notes how many look-ups are under way."""
    lock, now = threading.Lock(), [0]

    def look_up(host: str, port: int | None, **_: object) -> list[tuple[object, ...]]:
        with lock:
            now[0] += 1
            busy.append(now[0])
        time.sleep(seconds)
        with lock:
            now[0] -= 1
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port or 0))]

    return look_up


def test_rows_that_wait_for_a_look_up_lose_none_of_their_time(
    hostile: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile.answers["/x"] = reply(jpeg())
    hosts, busy = [f"h{number}.example" for number in range(20)], list[int]()
    monkeypatch.setattr(names, "LOOK_UPS", 2)
    monkeypatch.setattr(socket, "getaddrinfo", slowly(0.15, busy))
    urls = [f"http://{host}:{hostile.port}/x" for host in hosts]
    found = outcomes(hostile, urls, doors=Doors(frozenset(hosts)), timeout_s=0.8, header_timeout_s=0.7)
    assert [one.get("reason") for one in found] == [None] * 20
    assert max(busy) == 2


def test_a_redirects_look_up_that_must_wait_costs_the_row_nothing_either(
    hostile: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile.answers |= {"/x": reply(jpeg())}
    hosts = [f"h{number}.example" for number in range(12)]
    hostile.answers |= {f"/{host}": reply(status=302, Location=f"http://{host}:{hostile.port}/x") for host in hosts}
    monkeypatch.setattr(names, "LOOK_UPS", 1)
    monkeypatch.setattr(socket, "getaddrinfo", slowly(0.1, []))
    doors = Doors(frozenset(hosts), {"mirror.invalid": ("127.0.0.1", hostile.port)})
    urls = [f"http://mirror.invalid/{host}" for host in hosts]
    found = outcomes(hostile, urls, doors=doors, timeout_s=0.8, header_timeout_s=0.7)
    assert [one.get("reason") for one in found] == [None] * 12


def test_a_name_server_that_does_not_answer_is_named(hostile: HostileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: hostile.closing.wait(20) and [])
    (found,) = outcomes(hostile, ["http://slow.example/x"], timeout_s=5.0, header_timeout_s=0.2)
    hostile.closing.set()
    assert (found["reason"], found["detail"]) == ("dns", "the name server gave no answer in time")


def test_a_look_up_that_hangs_gives_its_place_away(hostile: HostileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(host: str, port: int | None, **_: object) -> list[tuple[object, ...]]:
        if host == "slow.example":
            hostile.closing.wait(20)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port or 0))]

    hostile.answers["/x"] = reply(jpeg())
    monkeypatch.setattr(names, "LOOK_UPS", 1)
    monkeypatch.setattr(names, "LONGEST_S", 0.3)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    urls = ["http://slow.example/x", f"http://good.example:{hostile.port}/x"]
    found = outcomes(hostile, urls, doors=Doors(frozenset({"good.example"})))
    hostile.closing.set()
    assert [one.get("reason") for one in found] == ["dns", None]


def test_an_address_needs_no_look_up(hostile: HostileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile.answers["/x"] = reply(jpeg())
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("there was a look-up"))
    assert fetch(hostile, hostile.url("/x"), doors=Doors(frozenset({"127.0.0.1"}))).kind == "jpeg"


@pytest.mark.parametrize("variable", ["http_proxy", "HTTPS_PROXY", "all_proxy"])
def test_a_proxy_is_refused_aloud_unless_it_is_to_be_ignored(
    variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv(variable, "http://user:secret@proxy.example:3128")
    with pytest.raises(ConfigError, match=r"proxy\.example:3128") as refused:
        download.setup(download.Config(), None)
    assert "secret" not in str(refused.value)
    download.setup(download.Config(ignore_proxy=True), None).engine.close()
    served = download.setup(download.Config(serve=str(tmp_path)), None)  # nothing leaves this machine
    assert served.server is not None
    served.server.close()


def test_no_proxy_is_no_reason_to_refuse() -> None:
    refuse_proxy({"no": "localhost", "ftp": "http://proxy.example", "http": ""})


SPELLINGS = [
    ("Mirror.Example", "http://mirror.example:81/x"),
    ("mirror.example:81", "http://mirror.example:81/x"),
    ("[::1]:8080", "http://[::1]:8080/x"),
    ("[0:0:0:0:0:0:0:1]:8080", "http://[::1]:8080/x"),
    ("::1", "http://[0:0:0:0:0:0:0:1]:8080/x"),
    ("[::1]", "http://[::1]:8080/x"),
    ("127.0.0.1:8080", "http://127.0.0.1:8080/x"),
    ("10.0.0.7", "http://10.0.0.7/x"),
]


@pytest.mark.parametrize(("allowed", "url"), SPELLINGS)
def test_an_allowed_host_is_let_in_in_every_spelling(allowed: str, url: str) -> None:
    target = parse(url)
    assert Doors(frozenset({door(allowed)})).admit(target.host, target.port, ["127.0.0.1"])
    with pytest.raises(Failure, match="address-refused"):
        Doors(frozenset({door("other.example"), door("[::2]:8080")})).admit(target.host, target.port, ["127.0.0.1"])


NO_HOSTS = ["http://h", "10.0.0.0/8", "*.example", "h/path", "user@h", "h:port", "h:99999", "", " ", "a b", "[::1"]


@pytest.mark.parametrize("text", NO_HOSTS)
def test_what_is_no_host_is_refused_and_not_silently_useless(text: str) -> None:
    with pytest.raises(ConfigError, match="allow_hosts has") as caught:
        download.Config(allow_hosts=(text,))
    assert "[::1]:8080" in caught.value.args[2]

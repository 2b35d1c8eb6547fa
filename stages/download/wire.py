"""One HTTP exchange under one deadline: look the host up once, check, connect to that very address, ask."""

from __future__ import annotations

import functools
import http.client
import io
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import certifi

from stages.download.address import Target, objection
from stages.download.failure import Failure


class Deadline:
    """The moment by which one attempt must be over, whatever the server does."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.end = time.monotonic() + seconds

    def left(self, doing: str) -> float:
        """Seconds left, more than 0. Raises Failure timeout."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise self.missed(doing)
        return left

    def missed(self, doing: str) -> Failure:
        return Failure("timeout", f"not done within {self.seconds:g} s, while {doing}")


@dataclass(frozen=True)
class Doors:
    """Where requests may go: public addresses, hosts that are allowed by name, and hosts that are mapped.

    allowed: HOST or HOST:PORT, exempt from the address check. mapped: host -> (address, port) to connect to instead.
    """

    allowed: frozenset[str] = frozenset()
    mapped: Mapping[str, tuple[str, int]] = field(default_factory=dict)

    def addresses(self, target: Target, deadline: Deadline) -> list[tuple[str, int]]:
        """The checked (address, port) pairs behind a target. Raises Failure dns or address-refused."""
        if target.host in self.mapped:
            return [self.mapped[target.host]]
        found = look_up(target, deadline)
        if not {target.host, f"{target.host}:{target.port}"} & self.allowed:
            for address in found:
                if problem := objection(address):
                    name = "" if target.host == address else f"{target.host} is "
                    raise Failure("address-refused", f"{name}{address}, {problem}")
        return [(address, target.port) for address in found]


def look_up(target: Target, deadline: Deadline) -> list[str]:
    """All addresses of the host, in the resolver's order. Raises Failure dns or timeout."""
    answer: queue.SimpleQueue[list[str] | Failure] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
            answer.put(list(dict.fromkeys(str(entry[4][0]) for entry in found)))
        except OSError as error:
            answer.put(Failure("dns", str(error.strerror)))
        except UnicodeError:  # an empty or overlong label
            answer.put(Failure("dns", "not a possible host name"))

    # getaddrinfo cannot be given a time limit, so it runs aside and is left behind when it takes too long.
    threading.Thread(target=ask, daemon=True).start()
    try:
        found = answer.get(timeout=deadline.left("looking up the host"))
    except queue.Empty:
        raise deadline.missed("looking up the host") from None
    if isinstance(found, Failure):
        raise found
    return found


@functools.cache
def tls() -> ssl.SSLContext:
    """Verifies against the system's and certifi's authorities; made once, since it takes 20 ms."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


@contextmanager
def ask(
    target: Target, doors: Doors, headers: Mapping[str, str], deadline: Deadline
) -> Iterator[http.client.HTTPResponse]:
    """The response to one GET, headers read and body not yet. Raises Failure for all that goes wrong on the way."""
    with _explained(deadline, "looking up the host"):
        addresses = doors.addresses(target, deadline)
    with _explained(deadline, "connecting"):
        plain = _connect(addresses, deadline)
    with plain:
        with _explained(deadline, "agreeing on TLS"):
            plain.settimeout(deadline.left("agreeing on TLS"))
            sock = plain if target.scheme == "http" else tls().wrap_socket(plain, server_hostname=target.host)
        with sock:
            with _explained(deadline, "waiting for the headers"):
                response = _request(sock, target, headers, deadline)
            with _explained(deadline, "reading the body"):
                yield response


def _connect(addresses: Sequence[tuple[str, int]], deadline: Deadline) -> socket.socket:
    """A connection to the first address that answers; each has a fair share of the time left."""
    for tried, address in enumerate(addresses):
        share = deadline.left("connecting") / (len(addresses) - tried)
        try:
            return socket.create_connection(address, timeout=share)
        except OSError:
            if tried == len(addresses) - 1:
                raise
    raise Failure("dns", "the host name has no address")


def _request(
    sock: socket.socket, target: Target, headers: Mapping[str, str], deadline: Deadline
) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(target.host, target.port)
    connection.sock = _TimedSocket(sock, deadline)  # all of a socket that http.client uses
    connection.putrequest("GET", target.path, skip_host=True, skip_accept_encoding=True)
    for name, value in {"Host": target.authority, **headers}.items():
        connection.putheader(name, value)
    connection.endheaders()
    return connection.getresponse()


class _TimedSocket:
    """A socket for http.client whose every read is bounded by the deadline, so that a slow drip ends too."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self.sock = sock
        self.deadline = deadline

    def sendall(self, data: bytes) -> None:
        self.sock.settimeout(self.deadline.left("sending the request"))
        self.sock.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self.sock, self.deadline), 1 << 16)

    def close(self) -> None:
        """http.client closes its side before the body is read; `ask` closes the real one."""


class _TimedReader(io.RawIOBase):
    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        super().__init__()
        self.sock = sock
        self.deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.sock.settimeout(self.deadline.left("reading"))
        return self.sock.recv_into(buffer)


@contextmanager
def _explained(deadline: Deadline, doing: str) -> Iterator[None]:
    """Turns what sockets, TLS and http.client raise into a Failure."""
    try:
        yield
    except TimeoutError as error:
        raise deadline.missed(doing) from error
    except ssl.SSLEOFError as error:
        raise Failure("connect", f"the connection ended while {doing}") from error
    except ssl.SSLError as error:
        raise Failure("tls", str(getattr(error, "verify_message", "") or error.reason or "handshake failed")) from error
    except http.client.HTTPException as error:  # before OSError: RemoteDisconnected is both
        raise Failure("connect", f"not an HTTP answer ({type(error).__name__}) while {doing}") from error
    except OSError as error:
        raise Failure("connect", f"{error.strerror or type(error).__name__} while {doing}") from error

"""From a host's name to the addresses that may be connected to: looked up once, checked, remembered for a while."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from stages.download.address import Target, canonical, objection
from stages.download.failure import Failure

REMEMBERED = 50_000  # names; about 20 MB
FRESH_S = 300.0  # how long an answer counts
LOOK_UPS = 64  # at a time, each in a thread of its own
LONGEST_S = 30.0  # after which a look-up gives its place to the next one
NO_ANSWER = "the name server gave no answer in time"


@dataclass(frozen=True)
class Doors:
    """Where requests may go: public addresses, hosts that are allowed by name, and hosts that are mapped.

    allowed: HOST or HOST:PORT, exempt from the address check. mapped: host -> (address, port) to connect to instead.
    """

    allowed: frozenset[str] = frozenset()
    mapped: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    inside: set[tuple[str, int]] = field(default_factory=set)  # (address, port) that such a host led to

    def admit(self, host: str, port: int, addresses: list[str]) -> list[tuple[str, int]]:
        """The (address, port) pairs to connect to for a host. Raises Failure address-refused."""
        if host in self.mapped:
            self.inside.add(self.mapped[host])
            return [self.mapped[host]]
        pairs = [(address, port) for address in addresses]
        if {canonical(host), f"{canonical(host)}:{port}"} & self.allowed:
            self.inside.update(pairs)
            return pairs
        for address in addresses:
            if problem := objection(address):
                name = "" if host == address else f"{host} is "
                raise Failure("address-refused", f"{name}{address}, {problem}")
        return pairs

    def admit_literal(self, target: Target) -> None:
        """Check a host that is an address already, which no resolver will see. Raises Failure address-refused."""
        if is_literal(target.host):
            self.admit(target.host, target.port, [target.host])

    def open_socket(self, info: tuple[Any, ...]) -> socket.socket:
        """The socket for one connection, the last check: its address is public or was let in by name."""
        family, kind, protocol, _, (address, port, *_) = info
        if (address, port) not in self.inside and objection(str(address)):
            raise PermissionError(13, f"{address} was not checked")
        return socket.socket(family=family, type=kind, proto=protocol)


def is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class _LookUp:
    fresh_until: float  # as time.monotonic() has it
    answer: asyncio.Future[list[str]]
    begun: asyncio.Event


class Names(AbstractResolver):
    """aiohttp's resolver: what it returns is checked, and aiohttp connects to exactly that."""

    def __init__(self, doors: Doors) -> None:
        self.doors = doors
        self._known: OrderedDict[str, _LookUp] = OrderedDict()
        self._free = asyncio.Semaphore(LOOK_UPS)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self.look_up(host)
        return [_result(host, address, port) for address, port in self.doors.admit(host, port, found)]

    async def close(self) -> None:
        """Nothing is held open."""

    def known(self, host: str) -> bool:
        """Whether the host needs no look-up, or has had it a short while ago."""
        kept = self._known.get(host)
        if kept is not None:
            return kept.answer.done() and kept.fresh_until >= time.monotonic()
        return host in self.doors.mapped or is_literal(host)

    async def begun(self, host: str) -> None:
        """Wait until the look-up of a host that is not known has begun. Before that the host is not to blame."""
        await self._of(host).begun.wait()

    async def look_up(self, host: str) -> list[str]:
        """All addresses of the host, in the resolver's order. None if it is mapped. Raises Failure dns."""
        if host in self.doors.mapped:
            return []
        return await asyncio.shield(self._of(host).answer)  # others may wait for the same answer

    def _of(self, host: str) -> _LookUp:
        kept = self._known.get(host)
        if kept is None or kept.fresh_until < time.monotonic():
            begun = asyncio.Event()
            answer = asyncio.ensure_future(self._ask(host, begun))
            kept = self._known[host] = _LookUp(time.monotonic() + FRESH_S, answer, begun)
            self._known.move_to_end(host)
            answer.add_done_callback(lambda done: self._forget_failure(host, done))
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return kept

    def _forget_failure(self, host: str, done: asyncio.Future[list[str]]) -> None:
        kept = self._known.get(host)
        if kept and kept.answer is done and (done.cancelled() or done.exception()):
            del self._known[host]

    async def _ask(self, host: str, begun: asyncio.Event) -> list[str]:
        async with self._free:
            begun.set()
            loop = asyncio.get_running_loop()
            answer: asyncio.Future[list[str]] = loop.create_future()
            # getaddrinfo cannot be given a time limit, so it runs aside and is left behind when it takes too long.
            # A pool's threads would all hang in the end, and be waited for at exit.
            threading.Thread(target=_get_addresses, args=[host, loop, answer], daemon=True).start()
            try:
                async with asyncio.timeout(LONGEST_S):
                    return await answer
            except TimeoutError as error:
                raise Failure("dns", NO_ANSWER) from error


def _get_addresses(host: str, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[list[str]]) -> None:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        problem = None if addresses else "the host name has no address"
    except OSError as error:
        addresses, problem = [], str(error.strerror or os.strerror(error.errno or 0))
    except UnicodeError:  # an empty or overlong label
        addresses, problem = [], "not a possible host name"

    def tell() -> None:
        if answer.done():
            return
        if problem:
            answer.set_exception(Failure("dns", problem))
        else:
            answer.set_result(addresses)

    if not loop.is_closed():
        loop.call_soon_threadsafe(tell)


def _result(host: str, address: str, port: int) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)

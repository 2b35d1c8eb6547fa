"""Fetch one URL under all guards: redirects, retries, opt-outs, limits and checksum."""

from __future__ import annotations

import hashlib
import http.client
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from stages.download.address import Target, follow, parse
from stages.download.failure import Failure
from stages.download.pictures import sniff
from stages.download.wire import Deadline, Doors, ask

CHUNK = 1 << 16
UNPACKED = 1 << 20
HEAD = 32  # bytes that suffice to tell the kind of a picture
REDIRECTS = frozenset({301, 302, 303, 307, 308})
OPT_OUTS = frozenset({"noai", "noimageai", "noindex", "noimageindex", "noml", "none"})  # none: noindex and nofollow
# Directives of X-Robots-Tag with a colon of their own; before any other colon stands the name of a robot.
WITH_VALUE = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})


@dataclass(frozen=True)
class Fetched:
    """A body that is a picture by its first bytes, decompressed, with its checksum verified if there was one."""

    body: bytes
    kind: str  # as pictures.sniff names it
    sha256: bytes
    attempts: int


@dataclass(frozen=True)
class Fetcher:
    """The rules of fetching; may be used from many threads."""

    doors: Doors
    timeout_s: float  # for one attempt: look-up, connections, redirects and body together
    retries: int
    backoff_s: float  # pause before the first retry; each further one is twice as long
    max_redirects: int
    max_bytes: int  # of the decompressed body
    user_agent: str
    stop: threading.Event = field(default_factory=threading.Event)  # set: nothing new is begun

    def fetch(self, url: str, checksum: str | None) -> Fetched:
        """The picture behind `url`. Raises Failure with the number of attempts made."""
        target = parse(url)
        for attempt in range(1, self.retries + 2):
            if self.stop.is_set():
                break
            try:
                body, kind = self._attempt(target)
                return Fetched(body, kind, verified(body, checksum), attempt)
            except Failure as failure:
                failure.attempts = attempt
                if not failure.temporary or attempt > self.retries:
                    raise
            self.stop.wait(self.backoff_s * 2 ** (attempt - 1))
        raise Failure("connect", "the run was stopped", attempt)

    def _attempt(self, target: Target) -> tuple[bytes, str]:
        deadline = Deadline(self.timeout_s)
        headers = {
            "User-Agent": self.user_agent,
            "Accept": "image/*",
            "Accept-Encoding": "identity",  # pictures are compressed already
            "Connection": "close",
        }
        for hop in range(self.max_redirects + 1):
            with redirected(hop), ask(target, self.doors, headers, deadline) as response:
                location = response.headers["Location"]
                if response.status not in REDIRECTS or not location:
                    return self._accept(response)
            with redirected(hop + 1):
                target = follow(target, location)
        raise Failure("redirect-limit", f"more than {self.max_redirects} redirects")

    def _accept(self, response: http.client.HTTPResponse) -> tuple[bytes, str]:
        refuse_status(response.status)
        if word := opt_out(response.headers.get_all("X-Robots-Tag", []), self.user_agent):
            raise Failure("opt-out", f"X-Robots-Tag: {word}")
        return self._body(response)

    def _body(self, response: http.client.HTTPResponse) -> tuple[bytes, str]:
        if (response.length or 0) > self.max_bytes:
            raise Failure("body-limit", f"{response.length} bytes are announced, {self.max_bytes} allowed")
        body, kind = bytearray(), None
        for chunk in plain_chunks(response):
            body += chunk
            if len(body) > self.max_bytes:
                raise Failure("body-limit", f"more than {self.max_bytes} bytes")
            if kind is None and len(body) >= HEAD:
                kind = kind_of(bytes(body[:HEAD]), response)  # the rest of a web page need not be read
        if response.length:
            raise Failure("connect", f"the connection ended {response.length} bytes early")
        return bytes(body), kind or kind_of(bytes(body[:HEAD]), response)


@contextmanager
def redirected(hops: int) -> Iterator[None]:
    """Says of a Failure that it is that of a redirect's goal."""
    try:
        yield
    except Failure as failure:
        if hops:
            failure.detail = f"redirected: {failure.detail}"
        raise


def kind_of(head: bytes, response: http.client.HTTPResponse) -> str:
    """The picture's kind by its first bytes, whatever Content-Type says. Raises Failure not-an-image."""
    kind = sniff(head)
    if kind is None:
        said = response.headers.get_content_type() if response.headers["Content-Type"] else "nothing"
        raise Failure("not-an-image", f"it starts with {head[:12]!r}; Content-Type says {said[:60]}")
    return kind


def plain_chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The body in pieces of at most 1 MiB, undone of gzip and deflate (which may be bombs)."""
    packed = (response.headers["Content-Encoding"] or "").strip().lower() in ("gzip", "x-gzip", "deflate")
    unpacker = zlib.decompressobj(wbits=47)  # gzip or zlib, by its header
    while chunk := response.read(CHUNK):
        while packed and chunk:
            try:
                yield unpacker.decompress(chunk, UNPACKED)
            except zlib.error as error:
                raise Failure("damaged-image", "the body is not the gzip that its header says") from error
            chunk = unpacker.unconsumed_tail
        if not packed:
            yield chunk
    if packed:
        yield unpacker.flush()
        if not unpacker.eof:
            raise Failure("connect", "the gzip body ended early")


def refuse_status(status: int) -> None:
    """Raise the Failure that belongs to an HTTP status other than 2xx."""
    if 200 <= status < 300:
        return
    named = {404: "not-found", 410: "not-found", 429: "rate-limited"}
    reason = named.get(status, "http-5xx" if status >= 500 else "http-4xx")
    raise Failure(reason, f"status {status}")


def opt_out(values: list[str], user_agent: str) -> str | None:
    """The directive of X-Robots-Tag headers by which all robots, or this one, are asked to leave the picture alone."""
    robot = user_agent.split("/")[0].strip().lower()
    for value in values:
        addressed = True
        for part in value.lower().split(","):
            name, colon, rest = part.strip().partition(":")
            if colon and name.strip() not in WITH_VALUE:
                addressed = name.strip() in (robot, "*")
                name = rest
            if addressed and name.strip() in OPT_OUTS:
                return name.strip()
    return None


def verified(body: bytes, checksum: str | None) -> bytes:
    """The body's SHA-256. Raises Failure checksum if `checksum` (md5:HEX or sha256:HEX) says another."""
    digest = hashlib.sha256(body)
    if checksum:
        name, _, wanted = checksum.strip().lower().partition(":")
        if name not in ("md5", "sha256"):
            raise Failure("checksum", f"the list gives {checksum[:80]!r}, which is neither md5:… nor sha256:…")
        found = digest.hexdigest() if name == "sha256" else hashlib.md5(body, usedforsecurity=False).hexdigest()
        if found != wanted:
            raise Failure("checksum", f"{name} is {found}, the list says {wanted}")
    return digest.digest()

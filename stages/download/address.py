"""Which URLs and which network addresses may be fetched at all: the guards against inside addresses."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

from yarl import URL

from stages.download.failure import Failure

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

PORTS = {"http": 80, "https": 443}
NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
V4_COMPATIBLE = ipaddress.IPv6Network("::/96")
GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")  # all that is assigned for unicast
# Special-purpose blocks (IANA) that Python's `is_global` counts as global, in some or all versions.
SPECIAL = tuple(
    map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2001:db8::/32", "3fff::/20"))
)
# Metadata services of clouds that lie at addresses which look public.
METADATA = frozenset({ipaddress.ip_address("168.63.129.16")})
CREDENTIALS = re.compile(r"//[^/?#]*@")
HEAD = re.compile(r"[^?#]*")
ENCODED_DOT = re.compile("%2e", re.IGNORECASE)
NUMBER = re.compile(r"^(?:[^:]*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?$")  # a host whose last part is one (WHATWG URL, 3.5)
CONTROL = re.compile(r"[\x00-\x20\x7f]")


@dataclass(frozen=True)
class Target:
    """Where one request goes: host in ASCII and lower case, without brackets. Path as it stands in the request."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def without_credentials(url: str) -> str:
    """The URL with user name and password blotted out, fit for tables and messages."""
    return CREDENTIALS.sub("//***@", url)


def host_of(url: str) -> str:
    """The host a URL names, for messages."""
    try:
        return urlsplit(url).hostname or "no host"
    except ValueError:
        return "no host"


def parse(url: str) -> Target:
    """Take a URL apart as a browser does. Non-ASCII hosts become IDNA and non-ASCII paths percent-encoded UTF-8.

    Backslashes before the query are slashes, and the path's `.` and `..` are resolved.
    Raises Failure scheme-refused for anything but http and https without credentials, dns for an impossible host name.
    """
    try:
        parts = urlsplit(_with_slashes(url.strip()))
        port = parts.port
    except ValueError as error:
        raise Failure("scheme-refused", f"not a URL: {error}") from error
    if parts.path and not parts.netloc and parts.scheme in ("", "file"):
        raise Failure("scheme-refused", "names a file on disk, not http or https. `pairloom import` takes those")
    if parts.scheme not in PORTS:
        raise Failure("scheme-refused", f"the scheme is {parts.scheme[:20]!r}, not http or https")
    if "@" in parts.netloc:
        raise Failure("scheme-refused", "the URL carries credentials")
    if not parts.hostname:
        raise Failure("scheme-refused", "the URL has no host")
    if port == 0:
        raise Failure("scheme-refused", "the port is 0")
    # Already encoded parts stay as they are: "%" is safe.
    path = _without_dots(_quoted(parts.path or "/", "/%:=&~+!$,;'@()*[]"))
    query = f"?{_quoted(parts.query, '/%:=&?~+!$,;@()*[]')}" if parts.query else ""
    return _sendable(Target(parts.scheme, _ascii_host(parts.hostname), port or PORTS[parts.scheme], path + query))


def door(text: str) -> str:
    """HOST or HOST:PORT of a setting, as `canonical` writes the host of a target. An IPv6 address may be in brackets.

    Raises ValueError for anything else, such as a URL, a network or a pattern, which would never match.
    """
    bare = text.count(":") > 1 and not text.startswith("[")
    parts = urlsplit(f"//[{text}]" if bare else f"//{text}")
    if not parts.hostname or parts.netloc != parts.geturl().removeprefix("//") or re.search(r"[*?/@\s]", text):
        raise ValueError("it is neither HOST nor HOST:PORT")
    host = canonical(_ascii_host(parts.hostname))
    return host if parts.port is None else f"{host}:{parts.port}"


def canonical(host: str) -> str:
    """A host as two spellings of one can be compared: an IPv6 address in its shortest form."""
    return str(ipaddress.ip_address(host)) if ":" in host else host


def _with_slashes(url: str) -> str:
    """The URL with slashes for the backslashes of host and path (WHATWG URL, 4.4)."""
    head = HEAD.match(url)
    assert head is not None
    return head[0].replace("\\", "/") + url[head.end() :]


def _quoted(part: str, safe: str) -> str:
    """Percent-encoded. A byte of a header that is no UTF-8 stays that byte, half a surrogate pair becomes U+FFFD."""
    whole = "".join("\ufffd" if "\ud800" <= c <= "\udfff" and not "\udc80" <= c <= "\udcff" else c for c in part)
    return quote(whole, safe=safe, errors="surrogateescape")


def _without_dots(path: str) -> str:
    """The path without `.` and `..`, so that robots.txt is asked about what the server will take it for."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        plain = ENCODED_DOT.sub(".", segment)
        if plain == "..":
            del kept[-1:]
        elif plain != ".":
            kept.append(segment)
    if plain in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def _ascii_host(host: str) -> str:
    if CONTROL.search(host):
        raise Failure("scheme-refused", "the host name holds a control character or space")
    try:
        name = (host if host.isascii() else host.encode("idna").decode("ascii")).lower()
        # Browsers, resolvers and some versions of aiohttp take 2130706433, 0177.1 and the like for addresses.
        return socket.inet_ntoa(socket.inet_aton(name.removesuffix("."))) if NUMBER.search(name) else name
    except (UnicodeError, OSError) as error:
        raise Failure("dns", "not a possible host name") from error


def _sendable(target: Target) -> Target:
    """The target if yarl, which aiohttp connects by, sees the same host and port in its URL."""
    try:
        read = URL(target.url, encoded=True)
        agrees = (read.raw_host, read.host is not None, read.port) == (target.host, True, target.port)
    except ValueError as error:
        raise Failure("dns", "not a possible host name") from error
    if not agrees:
        raise Failure("dns", "not a possible host name")
    return target


def follow(target: Target, location: str) -> Target:
    """Where a redirect leads. `location` is the header as aiohttp reads it. Raises Failure as `parse` does."""
    try:
        return parse(urljoin(target.url, _with_slashes(location)))
    except ValueError as error:
        raise Failure("scheme-refused", f"redirected to something that is no URL: {error}") from error


def objection(address: str) -> str | None:
    """Why this network address may not be connected to, or None: only public unicast addresses may.

    IPv4 addresses inside IPv6 ones (mapped, compatible, 6to4, NAT64) count as what they lead to.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])  # "fe80::1%eth0"
    inner = _embedded(ip)
    if inner is not None:
        return _kind(inner) or _outer_objection(ip)
    return _kind(ip)


def _embedded(ip: Address) -> ipaddress.IPv4Address | None:
    if isinstance(ip, ipaddress.IPv4Address):
        return None
    if ip.ipv4_mapped or ip.sixtofour:
        return ip.ipv4_mapped or ip.sixtofour
    if any(ip in network for network in NAT64) or (ip in V4_COMPATIBLE and int(ip) > 1):
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return None


def _outer_objection(ip: Address) -> str | None:
    # 64:ff9b:1::/48 is for use inside a network, and nobody is reached through ::a.b.c.d.
    return "a private address" if ip in NAT64[1] or ip in V4_COMPATIBLE else None


def _kind(ip: Address) -> str | None:
    if ip.is_loopback:
        return "a loopback address"
    if ip.is_link_local:
        return "a link-local address"
    if ip.is_multicast:
        return "a multicast address"
    if ip in METADATA:
        return "a cloud's metadata address"
    if any(ip in network for network in SPECIAL) or (ip.version == 6 and ip not in GLOBAL_V6):
        return "a private address"
    if not ip.is_global or ip.is_reserved:  # private, CGNAT, documentation, future use
        return "a private address"
    return None

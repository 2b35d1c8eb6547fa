"""Which URLs and addresses are refused."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis.strategies import integers, sampled_from, text

from stages.download.address import follow, objection, parse, without_credentials
from stages.download.failure import Failure

PRIVATE_V4 = [
    "0.0.0.0", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254", "169.254.169.254",
    "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.168.1.1", "198.18.0.1", "203.0.113.7", "224.0.0.1",
    "239.255.255.250", "240.0.0.1", "255.255.255.255", "168.63.129.16",
]  # fmt: skip
PUBLIC_V4 = ["1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.32.0.1", "169.253.1.1", "93.184.216.34"]
WRAPPINGS = {
    "mapped": lambda ip: ipaddress.IPv6Address((0xFFFF << 32) | int(ip)),
    "6to4": lambda ip: ipaddress.IPv6Address((0x2002 << 112) | (int(ip) << 80)),
    "nat64": lambda ip: ipaddress.IPv6Address((0x64FF9B << 96) | int(ip)),
}


@pytest.mark.parametrize("address", PRIVATE_V4)
def test_an_inside_ipv4_address_is_refused(address: str) -> None:
    assert objection(address)


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("address", PRIVATE_V4)
def test_an_inside_ipv4_address_wrapped_in_ipv6_is_refused(address: str, wrapping: str) -> None:
    assert objection(str(WRAPPINGS[wrapping](ipaddress.IPv4Address(address))))


@pytest.mark.parametrize("address", PUBLIC_V4)
def test_a_public_ipv4_address_passes_plain_and_wrapped(address: str) -> None:
    assert objection(address) is None
    assert objection(str(WRAPPINGS["mapped"](ipaddress.IPv4Address(address)))) is None
    assert objection(str(WRAPPINGS["nat64"](ipaddress.IPv4Address(address)))) is None


@pytest.mark.parametrize(
    "address",
    ["::", "::1", "::127.0.0.1", "::8.8.8.8", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1",
     "fec0::1", "2001::1", "2001:db8::1", "64:ff9b:1::808:808", "100::1"],
)  # fmt: skip
def test_an_inside_ipv6_address_is_refused(address: str) -> None:
    assert objection(address)


@pytest.mark.parametrize("address", ["2606:4700:4700::1111", "2a00:1450:4001:81b::200e"])
def test_a_public_ipv6_address_passes(address: str) -> None:
    assert objection(address) is None


@given(ip=integers(0, 2**32 - 1), wrapping=sampled_from(sorted(WRAPPINGS)))
def test_wrapping_never_opens_a_door(ip: int, wrapping: str) -> None:
    plain = ipaddress.IPv4Address(ip)
    if objection(str(plain)):
        assert objection(str(WRAPPINGS[wrapping](plain)))


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://a.example/x.jpg", "data:image/png;base64,AAAA", "javascript:alert(1)",
     "//a.example/x", "x.jpg", "", "http:///x.jpg", "http://user@a.example/", "http://user:pass@a.example/x.jpg", "http://a.example:99999/",
     "http://[::1/", "http://a b/", "http://a.example:0/"],
)  # fmt: skip
def test_what_is_no_plain_http_url_is_refused(url: str) -> None:
    with pytest.raises(Failure) as failure:
        parse(url)
    assert failure.value.reason == "scheme-refused"
    assert "pass" not in failure.value.detail


@pytest.mark.parametrize(("url", "named"), [("/d/a.jpg", True), ("a.jpg", True), ("file:///a.jpg", True), ("", False)])
def test_a_list_of_local_pictures_is_told_of_import(url: str, named: bool) -> None:
    with pytest.raises(Failure) as failure:
        parse(url)
    assert ("pairloom import" in failure.value.detail) == named


def test_urls_are_taken_apart_as_a_browser_would() -> None:
    target = parse(" HTTPS://Bücher.Example:8443/ä b/%20x?q=ü&r=%41#frag ")
    assert (target.scheme, target.host, target.port) == ("https", "xn--bcher-kva.example", 8443)
    assert target.path == "/%C3%A4%20b/%20x?q=%C3%BC&r=%41"
    assert target.authority == "xn--bcher-kva.example:8443"
    assert parse("http://a.example").path == "/"
    assert parse("http://[2606:4700::1]/x").authority == "[2606:4700::1]"
    assert parse("http:\\\\a.example\\b\\c.jpg?d=\\").url == "http://a.example/b/c.jpg?d=%5C"
    assert parse("http://a\\@127.0.0.1/").url == "http://a/@127.0.0.1/"
    assert parse("http://a.example/pub/../private/%2E/x/..").path == "/private/"


def test_a_number_for_a_host_is_the_address_that_resolvers_take_it_for() -> None:
    for host in ("2130706433", "0177.0.0.1", "0x7f.1", "127.1", "127.0.0.1", "127.0.0.1.", "0x7F000001", "１２７.1"):
        assert parse(f"http://{host}/").host == "127.0.0.1"
    for host in ("256.1.1.1", "1.2.3.4.5", "a.1", "0x", "08.1.1.1"):
        with pytest.raises(Failure):
            parse(f"http://{host}/")
    for host in ("1.example", "0x7f.example", "1a", "[::ffff:1.2.3.4]", "a-1"):
        assert parse(f"http://{host}/").host == host.strip("[]")


def test_a_redirect_is_read_relative_to_where_it_came_from() -> None:
    start = parse("http://a.example/one/two.jpg?x=1")
    assert follow(start, "three.jpg").url == "http://a.example/one/three.jpg"
    assert follow(start, "//b.example/y").url == "http://b.example/y"
    assert follow(start, "/ü").path == "/%C3%BC"
    assert follow(start, b"/\xfc".decode("utf-8", "surrogateescape")).path == "/%FC"  # a byte that is no UTF-8
    assert follow(start, "\\\\b.example\\y").url == "http://b.example/y"
    with pytest.raises(Failure):
        follow(start, "file:///etc/passwd")


def test_credentials_are_blotted_out_and_nothing_else() -> None:
    assert without_credentials("http://user:pa@ss@a.example/x") == "http://***@a.example/x"
    assert without_credentials("http://a.example/x@y?mail=a@b") == "http://a.example/x@y?mail=a@b"


@given(text())
def test_any_text_is_parsed_or_refused(url: str) -> None:
    try:
        target = parse(url)
    except Failure:
        return
    assert target.url.isascii()
    assert not any(c <= " " for c in target.url)
    assert parse(target.url) == target

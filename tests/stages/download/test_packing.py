"""Bodies are unpacked however they are packed and labelled, within the limit of bytes, or what they are is named."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from itertools import chain

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis.strategies import binary, integers, lists, sampled_from

from stages.download.failure import Failure
from stages.download.packing import Unpacker, as_far_as_possible, packings
from tests.stages.download.fetching import get, refused
from tests.stages.download.hostile import HostileServer, endless, jpeg, raw, reply

JPEG = jpeg(200, 150)
OK = b"HTTP/1.1 200 OK\r\n"


def deflated(data: bytes, bits: int = -15) -> bytes:
    packer = zlib.compressobj(wbits=bits)
    return packer.compress(data) + packer.flush()


def in_members(data: bytes) -> bytes:
    return b"".join(gzip.compress(data[start : start + 500]) for start in range(0, len(data), 500))


def brotli(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="brotli", asbytes=True))


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


PACKED = {
    "gzip": gzip.compress(JPEG),
    "x-gzip": gzip.compress(JPEG),
    " GZip ": in_members(JPEG),
    "deflate": deflated(JPEG),
    "Deflate": zlib.compress(JPEG),
    "deflate,": gzip.compress(JPEG),
    "br": brotli(JPEG),
    "zstd": zstd(JPEG),
    "gzip, gzip": gzip.compress(gzip.compress(JPEG)),
    "gzip, br": brotli(gzip.compress(JPEG)),
    "zstd,deflate, identity": deflated(zstd(JPEG)),
    "identity": JPEG,
    "": JPEG,
    "gzip, identity": JPEG,
    "br, nonsense": JPEG,
}


@pytest.mark.parametrize("label", PACKED)
def test_a_packed_picture_is_unpacked(hostile: HostileServer, label: str) -> None:
    hostile.answers["/x"] = reply(PACKED[label], Content_Encoding=label)
    assert get(hostile, "/x").body == JPEG


def test_transfer_encodings_and_several_headers_count_too(hostile: HostileServer) -> None:
    packed = gzip.compress(JPEG)
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(packed), packed)
    hostile.answers["/te"] = raw(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + chunks)
    twice = gzip.compress(packed)
    double = b"Content-Encoding: gzip\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(twice)
    hostile.answers["/two"] = raw(OK + double + twice)
    assert get(hostile, "/te").body == get(hostile, "/two").body == JPEG


def test_an_unknown_packing_is_named(hostile: HostileServer) -> None:
    hostile.answers |= {
        "/unknown": reply(b"\x1f\x9d" + JPEG, Content_Encoding="compress"),
        "/many": reply(JPEG, Content_Encoding="gzip, gzip, gzip, gzip"),
        "/not": reply(b"<html>no picture</html>", Content_Encoding="br"),
    }
    unknown, many, no = (refused(hostile, path) for path in ("/unknown", "/many", "/not"))
    assert (unknown.reason, "'compress'" in unknown.detail) == ("not-an-image", True)
    assert (many.reason, many.detail) == ("not-an-image", "packed 4 times")
    assert (no.reason, "not the br" in no.detail) == ("damaged-image", True)


def test_bytes_after_the_stream_are_left_out_but_counted(hostile: HostileServer) -> None:
    head = OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(JPEG)
    hostile.answers |= {"/some": raw(head + b"rubbish" * 99), "/ever": endless(head, b"rubbish" * 999)}
    assert get(hostile, "/some").body == JPEG
    assert refused(hostile, "/ever").reason == "body-limit"


MANY = JPEG[:100] + bytes(100 << 20)
BOMBS = {
    "gzip": gzip.compress(MANY),
    "deflate": deflated(MANY),
    "br": brotli(MANY),
    "zstd": zstd(MANY),
    "gzip, gzip": gzip.compress(gzip.compress(MANY)),
    "gzip, br": brotli(gzip.compress(MANY)),
    "br, gzip": gzip.compress(MANY),  # a packing of br that is not read to its end
}


@pytest.mark.parametrize("label", BOMBS)
def test_a_bomb_is_refused(hostile: HostileServer, label: str) -> None:
    assert len(BOMBS[label]) < 1 << 20
    hostile.answers["/x"] = reply(BOMBS[label], Content_Encoding=label)
    assert refused(hostile, "/x").reason == "body-limit"


@given(
    names=lists(sampled_from(["gzip", "deflate", "br", "zstd"]), max_size=3),
    data=binary(max_size=3000),
    cut=integers(1, 200),
)
def test_any_packing_is_undone_however_the_body_is_cut(names: list[str], data: bytes, cut: int) -> None:
    pack: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": deflated, "br": brotli, "zstd": zstd}
    data = JPEG[:40] + data
    packed = data
    for name in names:
        packed = pack[name](packed)
    unpacker = Unpacker(packings([", ".join(names)]), 1 << 20)
    pieces = [packed[start : start + cut] for start in range(0, len(packed), cut)]
    found = b"".join(chain(*map(unpacker.feed, pieces), unpacker.finish()))
    assert found == data


@given(data=binary(max_size=300), names=lists(sampled_from(["gzip", "deflate", "br", "zstd", "x"]), max_size=3))
def test_any_bytes_are_unpacked_or_refused(data: bytes, names: list[str]) -> None:
    assert isinstance(as_far_as_possible(data, names, 1 << 20), bytes)
    unpacker = Unpacker(names, 1 << 20)
    try:
        list(chain(unpacker.feed(data), unpacker.finish()))
    except Failure as failure:
        assert failure.reason in ("damaged-image", "connect", "not-an-image")  # noqa: PT017


@pytest.mark.parametrize("label", ["gzip", "deflate", "br", "zstd"])
def test_a_packed_body_that_is_cut_is_no_picture(hostile: HostileServer, label: str) -> None:
    hostile.answers["/x"] = reply(PACKED[label][:-20], Content_Encoding=label)
    assert refused(hostile, "/x").reason in ("connect", "damaged-image")

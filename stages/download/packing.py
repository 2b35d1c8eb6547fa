"""Undoes Content-Encoding and the like in small pieces, since what is packed may be a bomb."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Protocol

import pyarrow as pa

from stages.download.failure import Failure
from stages.download.kinds import sniff

PIECE = 1 << 20  # bytes that are unpacked at a time
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
MOST_LAYERS = 3
HEAD = 16  # bytes that suffice to tell what a body is


def packings(content_encoding: Sequence[str], transfer_encoding: Sequence[str] = ()) -> list[str]:
    """How a body was packed, in the order in which that was done. Transfer encodings come last.

    Raises Failure not-an-image for more layers than anybody means.
    """
    named = [part.strip().lower() for value in (*content_encoding, *transfer_encoding) for part in value.split(",")]
    found = [name.removeprefix("x-") for name in named if name not in ("", "identity", "chunked")]
    if len(found) > MOST_LAYERS:
        raise Failure("not-an-image", f"packed {len(found)} times")
    return found


class Layer(Protocol):
    """One packing on its way to be undone. Both methods raise Failure."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Pieces of what these further bytes hold."""

    def finish(self) -> Iterator[bytes]:
        """What is left when there are no further bytes."""


class Plain:
    """No packing."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        yield data

    def finish(self) -> Iterator[bytes]:
        yield from ()


class Deflated:
    """gzip, of one member or several, and deflate, with a zlib header or without."""

    def __init__(self, name: str, head: bytes) -> None:
        self.name = name
        self.bits = 31 if head.startswith(GZIP) else 15 if _has_zlib_header(head) else -15
        self.stream = zlib.decompressobj(self.bits)
        self.over = False  # whether bytes come that belong to no member

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data and not self.over:
            try:
                piece = self.stream.decompress(data, PIECE)
            except zlib.error as error:
                raise Failure("damaged-image", f"the body is not the {self.name} that its header says") from error
            if piece:
                yield piece
            data = self.stream.unconsumed_tail
            if self.stream.eof:
                data = self.stream.unused_data
                self.over = bool(data) and not (self.bits == 31 and data.startswith(GZIP[:1]))
                if data and not self.over:
                    self.stream = zlib.decompressobj(self.bits)

    def finish(self) -> Iterator[bytes]:
        if not self.stream.eof:
            raise Failure("connect", f"the {self.name} body ended early")
        yield from ()


class Collected:
    """br and zstd, which Arrow unpacks once everything is there."""

    def __init__(self, name: str, most: int) -> None:
        self.name, self.most = name, most
        self.data = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        self.data += data
        if len(self.data) > self.most:
            raise Failure("body-limit", f"more than {self.most} bytes")
        yield from ()

    def finish(self) -> Iterator[bytes]:
        codec = {"br": "brotli"}.get(self.name, self.name)
        try:
            with pa.CompressedInputStream(pa.BufferReader(bytes(self.data)), codec) as stream:
                while piece := stream.read(PIECE):
                    yield piece
        except (OSError, pa.ArrowException) as error:
            raise Failure("damaged-image", f"the body is not the {self.name} that its header says") from error


class Unpacker:
    """All packings of one body, undone one after another. Its methods are those of a Layer."""

    def __init__(self, names: Sequence[str], most: int) -> None:
        """names: as `packings` gives them; most: bytes that may be held before they are unpacked."""
        self.names, self.most = list(reversed(names)), most
        self.layers: list[Layer | None] = [None] * len(names)  # the outermost first; None: not enough bytes yet
        self.heads = [b""] * len(names)

    def feed(self, data: bytes) -> Iterator[bytes]:
        yield from self._through(data, 0)

    def finish(self) -> Iterator[bytes]:
        for depth, name in enumerate(self.names):
            found = self.layers[depth]
            if found is None:  # the body is shorter than a head
                found = self.layers[depth] = layer(name, self.heads[depth], self.most)
                yield from self._through(self.heads[depth], depth)
            for piece in found.finish():
                yield from self._through(piece, depth + 1)

    def _through(self, data: bytes, depth: int) -> Iterator[bytes]:
        if depth == len(self.names):
            yield data
            return
        found = self.layers[depth]
        if found is None:
            data = self.heads[depth] = self.heads[depth] + data
            if len(data) < HEAD:
                return
            found = self.layers[depth] = layer(self.names[depth], data, self.most)
        for piece in found.feed(data):
            yield from self._through(piece, depth + 1)


def as_far_as_possible(data: bytes, names: Sequence[str], most: int) -> bytes:
    """What is in `data`, up to `most` bytes and to where it is damaged. The data itself if that is not packed so.

    gzip is undone whatever the names say.
    """
    found = _so_far(data, names, most)
    return _so_far(found, ["gzip"], most) if found.startswith(GZIP) else found


def _so_far(data: bytes, names: Sequence[str], most: int) -> bytes:
    unpacker, found = Unpacker(names, most), bytearray()
    try:
        for piece in chain(unpacker.feed(data), unpacker.finish()):
            found += piece
            if len(found) > most:
                break
    except Failure:
        return bytes(found) or data
    return bytes(found)


def layer(name: str, head: bytes, most: int) -> Layer:
    """What undoes a packing of this name. A body that is none although it is called so is taken as it is.

    head: its first bytes; most: bytes that may be held. Raises Failure not-an-image for an unknown packing.
    """
    magic = {"gzip": GZIP, "zstd": ZSTD}.get(name, b"")
    if not head or sniff(head) or not head.startswith(magic):
        return Plain()
    if name in ("gzip", "deflate"):
        return Deflated(name, head)
    if name in ("br", "zstd"):
        return Collected(name, most)
    raise Failure("not-an-image", f"its encoding is {name[:40]!r}, which is not one of gzip, deflate, br and zstd")


def _has_zlib_header(head: bytes) -> bool:
    return len(head) > 1 and head[0] & 15 == 8 and (head[0] << 8 | head[1]) % 31 == 0

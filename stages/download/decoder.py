"""The process that decodes: bodies come in over a socket, stored pictures go out. It may crash at any time.

Request: lengths of kind, checksum and body, then these. Answer: lengths of the outcome as JSON and of the picture, then
these. The picture is empty where the body is stored as it came (`kept`). Nothing that a picture could take over in here
is ever executed by the parent: it reads JSON and bytes.
"""

from __future__ import annotations

import hashlib
import json
import resource
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import Any

from stages.download.failure import Failure
from stages.download.pictures import Limits, normalise

REQUEST = struct.Struct("<III")
ANSWER = struct.Struct("<II")
READY = b"ready"


def outcome(body: bytes, kind: str, checksum: str, limits: Limits) -> tuple[dict[str, Any], bytes]:
    """What becomes of a body, as plain values, and the stored picture (empty if that is the body itself)."""
    try:
        sha256 = verified(body, checksum or None)
        picture = normalise(body, kind, limits)
    except Failure as failure:
        return {"reason": failure.reason, "detail": failure.detail}, b""
    kept = picture.image is body
    found = {
        "image_id": picture.image_id.hex(),
        "format": picture.format,
        "width": picture.width,
        "height": picture.height,
        "original_width": picture.original_width,
        "original_height": picture.original_height,
        "phash": picture.phash,
        "sha256": sha256.hex(),
        "kept": kept,
    }
    return found, b"" if kept else picture.image


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


def serve(connection: socket.socket, limits: Limits) -> None:
    """Answer requests until the other side closes."""
    with connection, connection.makefile("rb", buffering=1 << 20) as stream:
        while head := stream.read(REQUEST.size):
            kind, checksum, body = (stream.read(length) for length in REQUEST.unpack(head))
            found, picture = outcome(body, kind.decode(), checksum.decode(), limits)
            text = json.dumps(found, ensure_ascii=False).encode("utf-8", "surrogatepass")
            connection.sendall(ANSWER.pack(len(text), len(picture)) + text + picture)


def limit_memory(megabytes: int) -> None:
    """Let this process take `megabytes` more than it has. Beyond that an allocation fails and the row with it."""
    memory = Path("/proc/self/statm")
    if memory.exists():  # elsewhere the limit on addresses means little
        pages = int(memory.read_text().split()[0])
        most = pages * resource.getpagesize() + (megabytes << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main() -> None:
    """argv: the socket's file descriptor, megabytes, and the limits as JSON."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle. We end when it closes the socket
    connection = socket.socket(fileno=int(sys.argv[1]))
    limits = Limits(**json.loads(sys.argv[3]))
    limit_memory(int(sys.argv[2]))
    connection.sendall(READY)
    serve(connection, limits)


if __name__ == "__main__":
    main()

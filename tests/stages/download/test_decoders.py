"""The decoding processes: their limits of memory and time cost one row, and the next one is decoded as ever."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from pairloom.errors import RunError
from stages.download.decoders import Decoders, Decoding
from stages.download.kinds import sniff
from stages.download.pictures import Limits
from tests.stages.download.bombs import BOMBS
from tests.stages.download.fuzzing import COUNT
from tests.stages.download.hostile import encoded, jpeg, scene

DECODING = Decoding(Limits(max_pixels=89_000_000, max_side=64, quality=90), processes=1)
PLAIN = jpeg()


def outcomes(decoding: Decoding, bodies: list[tuple[bytes, str]], stopped: bool = False) -> list[dict[str, Any]]:
    """What becomes of the bodies, one after another; stopped: the process is halted before the first one."""

    async def run() -> list[dict[str, Any]]:
        decoders = Decoders(decoding)
        try:
            await decoders.outcome(PLAIN, "jpeg", None)  # so that a process is there
            if stopped:
                os.kill(decoders._alive[0].popen.pid, signal.SIGSTOP)
            return [(await decoders.outcome(body, kind, None))[0] for body, kind in bodies]
        finally:
            decoders.close()

    return asyncio.run(run())


def test_a_picture_that_needs_more_memory_than_allowed_is_damaged_and_the_next_is_not() -> None:
    large = encoded(Image.fromarray(np.zeros((9000, 9000, 3), np.uint8)), "PNG")  # 243 MB of pixels
    bodies = [(large, "png"), (PLAIN, "jpeg")]
    tight, plain = outcomes(replace(DECODING, memory_mb=128), bodies)
    assert (tight["reason"], plain.get("reason")) == ("damaged-image", None)
    assert "Memory" in tight["detail"]
    assert [one.get("reason") for one in outcomes(replace(DECODING, memory_mb=1024), bodies)] == [None, None]


def test_no_pixel_of_a_bomb_is_decoded() -> None:
    tight = Decoding(Limits(max_pixels=10_000_000, max_side=64, quality=90), processes=1, memory_mb=128)
    found = outcomes(tight, [(body, sniff(body) or "") for body in BOMBS.values()])
    assert [one["reason"] for one in found] == ["pixel-limit"] * len(BOMBS), "each would take more memory than allowed"


def test_a_decoder_that_takes_too_long_is_replaced() -> None:
    start = time.monotonic()
    slow, plain = outcomes(replace(DECODING, timeout_s=0.5), [(PLAIN, "jpeg")] * 2, stopped=True)
    assert (slow["reason"], slow["detail"]) == ("damaged-image", "decoding it took more than 0.5 s")
    assert plain["format"] == "jpeg"
    assert time.monotonic() - start < 10


def test_a_decoder_that_cannot_start_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RunError, match="does not start: exit code 1"):
        outcomes(DECODING, [])


KINDS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")


def damaged(kind: str, seed: int) -> bytes:
    """A picture of this kind that is cut, or has some bytes changed behind its first ones."""
    chance = random.Random(f"{kind}/{seed}")
    body = bytearray(encoded(Image.fromarray(scene(40, 30, seed)), kind))
    if seed % 2:
        return bytes(body[: chance.randrange(12, len(body))])
    for _ in range(chance.randint(1, 12)):
        body[chance.randrange(12, len(body))] = chance.randrange(256)
    return bytes(body)


def test_what_is_said_of_a_damaged_picture_is_the_same_in_every_process() -> None:
    kinds = [kind for kind in KINDS if kind != "AVIF" or features.check("avif")]
    bodies = [(damaged(kind, seed), kind.lower()) for kind in kinds for seed in range(COUNT // len(kinds) or 12)]
    bodies.append((b"\xff\xd8\xff" + bytes(100), "jpeg"))  # Pillow names the object it was given, with its address
    found = outcomes(DECODING, bodies)
    assert found == outcomes(DECODING, bodies[::-1])[::-1]
    details = {one["detail"] for one in found if "detail" in one}
    assert len(details) > 5
    assert not [detail for detail in details if re.search("0x[0-9a-f]{4,}", detail)]  # a marker is one byte
    assert any("BytesIO object" in detail for detail in details)

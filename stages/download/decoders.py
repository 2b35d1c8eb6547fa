"""The parent's side of decoding: a few processes with a memory limit, each replaced when a picture kills it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pairloom.errors import RunError
from stages.download.decoder import ANSWER, READY, REQUEST
from stages.download.failure import KilledError
from stages.download.pictures import Limits

FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Decoding:
    """How pictures are decoded."""

    limits: Limits
    processes: int
    memory_mb: int = 2048  # that a process may take for its pictures
    timeout_s: float = 60.0  # for one picture


@dataclass
class _Process:
    popen: subprocess.Popen[bytes]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class Decoders:
    """Hands bodies to idle processes, started when first needed. Belongs to the event loop it is used on."""

    def __init__(self, decoding: Decoding) -> None:
        self.decoding = decoding
        self._idle: asyncio.LifoQueue[_Process | None] = asyncio.LifoQueue()
        for _ in range(decoding.processes):
            self._idle.put_nowait(None)  # a place for a process
        self._alive: list[_Process] = []

    @property
    def busy(self) -> bool:
        """Whether a body that comes now has to wait."""
        return self._idle.empty()

    async def outcome(self, body: bytes, kind: str, checksum: str | None) -> tuple[dict[str, Any], bytes]:
        """decoder.outcome of a body, with the stored picture always given. A process that dies costs this row only.

        One that is killed from outside, as where the machine's memory ends, costs none: another one tries it again.
        Raises KilledError if that is killed, too.
        """
        try:
            return await self._attempt(body, kind, checksum)
        except KilledError:
            return await self._attempt(body, kind, checksum)

    async def _attempt(self, body: bytes, kind: str, checksum: str | None) -> tuple[dict[str, Any], bytes]:
        process = await self._idle.get()
        try:
            if process is None:
                process = await self._start()
            async with asyncio.timeout(self.decoding.timeout_s):
                found, picture = await _exchange(process, body, kind, checksum or "")
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError) as error:
            assert process is not None
            dead, process = process, None
            found, picture = {"reason": "damaged-image", "detail": self._died(dead, error)}, b""
        except BaseException:
            if process is not None:
                self._end(process)
            process = None
            raise
        finally:
            self._idle.put_nowait(process)
        return found, body if found.get("kept") else picture

    def close(self) -> None:
        for process in list(self._alive):
            self._end(process)

    async def _start(self) -> _Process:
        ours, theirs = socket.socketpair()
        settings = [str(theirs.fileno()), str(self.decoding.memory_mb), json.dumps(asdict(self.decoding.limits))]
        popen = subprocess.Popen(
            [sys.executable, "-m", "stages.download.decoder", *settings],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # what libraries say of damaged files is no news
            env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
        )
        theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours, limit=1 << 20)
        process = _Process(popen, reader, writer)
        self._alive.append(process)
        try:
            await reader.readexactly(len(READY))
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            self._refuse_killed(process)
            raise RunError(
                f"a decoding process does not start: exit code {popen.wait()}",
                "stages/download/decoder.py",
                "check the installation (`pairloom doctor`) and download.decoder_memory_mb",
            ) from error
        return process

    def _died(self, process: _Process, error: BaseException) -> str:
        """Why a process gave no answer, in words that are the same every time. Raises KilledError."""
        if isinstance(error, TimeoutError):
            self._end(process)
            return f"decoding it took more than {self.decoding.timeout_s:g} s"
        self._refuse_killed(process)
        code = process.popen.wait()
        self._end(process)
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"the decoder crashed on it ({how})"

    def _refuse_killed(self, process: _Process) -> None:
        """Raise KilledError if a process has ended by a signal that no picture causes."""
        if (signum := -process.popen.wait()) in FROM_OUTSIDE:
            self._end(process)
            raise KilledError(f"the decoder was killed each time ({signal.Signals(signum).name})")

    def _end(self, process: _Process) -> None:
        process.writer.transport.abort()
        process.popen.kill()
        process.popen.wait()
        self._alive.remove(process)


async def _exchange(process: _Process, body: bytes, kind: str, checksum: str) -> tuple[dict[str, Any], bytes]:
    named, expected = kind.encode(), checksum.encode()
    head = REQUEST.pack(len(named), len(expected), len(body)) + named + expected
    process.writer.writelines([head, body])  # as one: a system call costs as much as decoding a small picture
    text, picture = ANSWER.unpack(await process.reader.readexactly(ANSWER.size))
    found: dict[str, Any] = json.loads((await process.reader.readexactly(text)).decode("utf-8", "surrogatepass"))
    return found, await process.reader.readexactly(picture) if picture else b""

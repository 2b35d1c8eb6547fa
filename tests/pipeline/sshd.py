"""An ssh server on loopback that lets everybody in and runs commands here: `python -m tests.pipeline.sshd FILE`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import asyncssh


class Anyone(asyncssh.SSHServer):
    """Lets everybody in."""

    def begin_auth(self, username: str) -> bool:
        return False


async def run(process: asyncssh.SSHServerProcess[str]) -> None:
    started = await asyncio.create_subprocess_shell(process.command or "")
    process.exit(await started.wait())


async def serve(port_file: Path) -> None:
    """Until the process is killed. The port stands in the file."""
    keys = [asyncssh.generate_private_key("ssh-ed25519")]
    server = await asyncssh.create_server(Anyone, "127.0.0.1", 0, server_host_keys=keys, process_factory=run)
    port_file.write_text(f"{server.get_port()}\n", encoding="utf-8")
    await server.wait_closed()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))

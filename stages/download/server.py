"""A real HTTP server on loopback for the sample's folder, as long as the process lives.

`server.json` in the folder says what else than a file some paths answer, so that failures can be shown:
    {"/gone.jpg": {"status": 404}, "/page.jpg": {"file": "page.html", "content_type": "text/html"},
     "/inside.jpg": {"redirect": "http://127.0.0.1:9/secret.jpg"}, "/mine.jpg": {"headers": {"X-Robots-Tag": "noai"}}}
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pairloom.errors import InputError

HOST = "sample.invalid"  # a name that never resolves (RFC 2606), mapped to this server by the fetcher
RULES = "server.json"
TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp", ".html": "text/html"}


@dataclass(frozen=True)
class Rule:
    """What a path answers. `file` is relative to the folder, by default the path itself."""

    status: int = 200
    file: str | None = None
    content_type: str | None = None
    redirect: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class PictureServer:
    """Serves a folder at (address, port) until `close`, or until the process ends."""

    def __init__(self, folder: Path) -> None:
        """Raises InputError if the folder is missing or its rules make no sense."""
        if not folder.is_dir():
            raise InputError(
                "the folder to serve is missing",
                str(folder),
                "run the stage that makes it, or set download.serve to null",
            )
        self.folder = folder.resolve()
        self.rules = read_rules(folder / RULES)
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for a path. Files outside the folder are as good as missing."""
        rule = self.rules.get(path, Rule())
        if rule.redirect:
            return 302, {"Location": rule.redirect, **rule.headers}, b""
        file = (self.folder / (rule.file or path.replace("\0", "").lstrip("/"))).resolve()
        if rule.status != 200 or not file.is_relative_to(self.folder) or not file.is_file():
            return (404 if rule.status == 200 else rule.status), dict(rule.headers), b""
        kind = rule.content_type or TYPES.get(file.suffix.lower(), "application/octet-stream")
        return 200, {"Content-Type": kind, **rule.headers}, file.read_bytes()


def read_rules(path: Path) -> dict[str, Rule]:
    """The rules by path. None if there is no such file. Raises InputError."""
    if not path.exists():
        return {}
    try:
        rules: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return {name: Rule(**rule) for name, rule in rules.items()}
    except (json.JSONDecodeError, TypeError, AttributeError) as error:
        raise InputError(
            f"not a rule for each path: {error}", str(path), "see the examples at the top of stages/download/server.py"
        ) from error


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # a shard's threads all knock at once

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client may hang up when it has seen enough
            super().handle_error(request, client_address)


def _handler(server: PictureServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60

        def do_GET(self) -> None:
            status, headers, body = server.answer(unquote(urlsplit(self.path).path))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: requests are no news."""

    return Handler

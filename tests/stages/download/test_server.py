"""The sample's server answers files and rules, and nothing outside its folder."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pairloom.errors import InputError
from stages.download.server import PictureServer

RULES = {
    "/pictures/gone.jpg": {"status": 404},
    "/pictures/broken.jpg": {"status": 500},
    "/pictures/page.jpg": {"content_type": "text/html", "file": "pictures/page.html"},
    "/pictures/inside.jpg": {"redirect": "http://127.0.0.1:9/secret.jpg"},
    "/pictures/mine.jpg": {"headers": {"X-Robots-Tag": "noai"}},
    "/pictures/outside.jpg": {"file": "../secret.txt"},
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PictureServer]:
    pictures = tmp_path / "sample" / "pictures"
    pictures.mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("secret")
    for name, content in {"a b.jpg": b"one", "page.html": b"<html>", "mine.jpg": b"mine", "gone.jpg": b"no"}.items():
        (pictures / name).write_bytes(content)
    (pictures.parent / "server.json").write_text(json.dumps(RULES))
    running = PictureServer(pictures.parent)
    yield running
    running.close()


def ask(server: PictureServer, path: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection(*server.address, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def test_files_are_served_with_their_type(server: PictureServer) -> None:
    status, headers, body = ask(server, "/pictures/a%20b.jpg?size=1")
    assert (status, headers["Content-Type"], body) == (200, "image/jpeg", b"one")


def test_rules_say_what_else_a_path_answers(server: PictureServer) -> None:
    assert ask(server, "/pictures/gone.jpg")[::2] == (404, b"")
    assert ask(server, "/pictures/broken.jpg")[0] == 500
    status, headers, body = ask(server, "/pictures/page.jpg")
    assert (status, headers["Content-Type"], body) == (200, "text/html", b"<html>")
    status, headers, _ = ask(server, "/pictures/inside.jpg")
    assert (status, headers["Location"]) == (302, "http://127.0.0.1:9/secret.jpg")
    status, headers, body = ask(server, "/pictures/mine.jpg")
    assert (status, headers["X-Robots-Tag"], body) == (200, "noai", b"mine")


@pytest.mark.parametrize(
    "path",
    ["/none.jpg", "/pictures", "/", "/../secret.txt", "/%2e%2e/secret.txt", "/pictures/..%2f..%2fsecret.txt",
     "//etc/passwd", "/%00", "/pictures/outside.jpg"],
)  # fmt: skip
def test_nothing_else_and_nothing_outside_is_served(server: PictureServer, path: str) -> None:
    assert ask(server, path)[::2] == (404, b"")


def test_many_clients_are_served_at_once(server: PictureServer) -> None:
    seen: list[int] = []
    threads = [threading.Thread(target=lambda: seen.append(ask(server, "/pictures/a%20b.jpg")[0])) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [200] * 64


def test_a_missing_folder_and_senseless_rules_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing"):
        PictureServer(tmp_path / "nowhere")
    for rules in ("nonsense", '{"/a": {"colour": "red"}}', '{"/a": 404}', "[1]"):
        (tmp_path / "server.json").write_text(rules)
        with pytest.raises(InputError, match="rule"):
            PictureServer(tmp_path)

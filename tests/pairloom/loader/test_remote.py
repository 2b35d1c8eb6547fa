"""Shards behind HTTP: the batches of those on disk, a bounded cache, and servers that fail, stall and cut off."""

from __future__ import annotations

import http.server
import itertools
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pairloom.errors import InputError, StoreError
from pairloom.loader import Loader, Options, remote
from pairloom.loader.pieces import Cache
from pairloom.loader.reading import DamagedError
from pairloom.loader.remote import RemoteSource
from pairloom.loader.rows import open_rows
from tests.pairloom.loader.loading import recipe, rows_of, tokenizer, write_folder


class Server(http.server.ThreadingHTTPServer):
    """Files with byte ranges. faults: for each of the next requests for a shard's bytes, how it goes wrong."""

    daemon_threads = True
    folder: Path
    faults: list[str]
    asked: Counter[str]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = self.server.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        content, status = path.read_bytes(), 200
        if found := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
            content, status = content[int(found[1]) : int(found[2]) + 1], 206
        fault = self.server.faults.pop(0) if body and path.suffix == ".parquet" and self.server.faults else ""
        self.server.asked[path.name] += body
        if fault == "fail":
            self.send_error(503)
            return
        if fault == "stall":
            time.sleep(1.5)
        if fault == "flip":
            content = bytes([content[0] ^ 1]) + content[1:]
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if body:
            self.wfile.write(content[: len(content) // 2] if fault == "truncate" else content)
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass


def started(folder: Path, port: int = 0) -> Server:
    server = Server(("127.0.0.1", port), Handler)
    server.folder, server.faults, server.asked = folder, [], Counter()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    write_folder(tmp_path / "site" / "shards", (9, 8, 6))
    with started(tmp_path / "site") as server:
        yield server
        server.shutdown()


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_port}/shards"


def batches(shards: Any, steps: int = 8, **options: Any) -> list[list[dict[str, Any]]]:
    mine = Loader(shards, recipe(), tokenizer(), seed=2, batch_size=8, options=Options(window=2, **options))
    return [rows_of(batch) for batch in itertools.islice(mine, steps)]


def rows(server: Server, cache: Path, **settings: Any) -> Any:
    """The rows of the remote folder, with a source that loses patience sooner."""
    opened = open_rows(url(server), "train", recipe().columns(), ("en",), Options(cache=cache))
    object.__setattr__(opened, "source", RemoteSource(url(server), Cache(cache, 1 << 30), patience_s=60, **settings))
    return opened


def test_batches_are_those_of_the_same_shards_on_disk_and_are_fetched_once(server: Server, tmp_path: Path) -> None:
    local = batches(server.folder / "shards")
    assert batches(url(server), cache=tmp_path / "cache") == local
    asked = server.asked["train-00000.parquet"]
    assert batches(url(server), cache=tmp_path / "cache") == local  # another loader, the same cache
    assert server.asked["train-00000.parquet"] == asked


@pytest.mark.parametrize("fault", ["fail", "stall", "truncate"])
def test_a_server_that_fails_now_and_then_changes_nothing(
    fault: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PAUSE_S", 0.01)
    local = batches(server.folder / "shards", 3)
    server.faults = [fault, "", fault, "", "", fault]
    assert batches(rows(server, tmp_path / "cache", stall_s=0.5), 3) == local
    assert not server.faults


def test_a_server_that_always_fails_is_an_error_that_names_it(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PAUSE_S", 0.01)
    server.faults = ["fail"] * 1000
    with pytest.raises((StoreError, DamagedError), match=r"could not be fetched in 0.\d s and \d+ attempts: .*503"):
        batches(url(server), cache=tmp_path / "cache", patience_s=0.5)


def test_training_goes_on_when_a_server_was_restarted(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    local = batches(server.folder / "shards")
    options = Options(window=2, cache=tmp_path / "cache", patience_s=60)
    mine = iter(Loader(url(server), recipe(), tokenizer(), seed=2, batch_size=8, options=options))
    found = [rows_of(next(mine))]
    server.shutdown()
    server.server_close()
    again: list[Server] = []
    restarting = threading.Timer(1.5, lambda: again.append(started(server.folder, server.server_port)))
    restarting.start()
    found += [rows_of(batch) for batch in itertools.islice(mine, 7)]
    assert found == local
    assert "trying again for 60 s" in capsys.readouterr().err
    restarting.join()
    again[0].shutdown()
    again[0].server_close()


def test_a_shard_that_is_gone_is_passed_over_as_on_a_disk(server: Server, tmp_path: Path) -> None:
    local = batches(server.folder / "shards", on_damage="skip")
    (server.folder / "shards" / "train-00002.parquet").unlink()
    kept = batches(server.folder / "shards", on_damage="skip", damage_budget=9)
    assert kept != local
    assert batches(url(server), cache=tmp_path / "cache", on_damage="skip", damage_budget=9) == kept


def test_bytes_that_were_changed_on_the_way_are_not_used(server: Server, tmp_path: Path) -> None:
    local = batches(server.folder / "shards", 3)
    server.faults = ["", "flip", "", "", "flip"]
    assert batches(url(server), 3, cache=tmp_path / "good") == local  # fetched once more
    server.faults = ["flip"] * 1000
    with pytest.raises(DamagedError, match="not what was written"):
        batches(url(server), cache=tmp_path / "cache")


def test_a_wrong_address_is_told_at_once(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        batches(url(server) + "/nothing", cache=tmp_path / "cache")


def test_the_cache_drops_the_oldest_piece_and_never_grows_beyond_its_limit(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", limit_bytes=250)
    fetched: Counter[str] = Counter()

    def get(key: str) -> None:
        def fetch() -> bytes:
            fetched[key] += 1
            return bytes(100)

        assert cache.piece(key, fetch).read_bytes() == bytes(100)
        time.sleep(0.01)  # ages are told apart by the file system's clock
        assert sum(path.stat().st_size for path in cache.folder.iterdir() if path.is_file()) <= 250

    for key in ("a", "b", "a", "c", "a", "b"):
        get(key)
    assert fetched == {"a": 1, "b": 2, "c": 1}  # b was the oldest when c came


def test_many_at_once_fetch_a_piece_once(tmp_path: Path) -> None:
    cache, calls = Cache(tmp_path / "cache", limit_bytes=250), []

    def fetch() -> bytes:
        calls.append(1)
        time.sleep(0.1)
        return b"x"

    threads = [threading.Thread(target=cache.piece, args=("key", fetch)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1

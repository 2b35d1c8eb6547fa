"""`pairloom retry` with other settings: how the web is asked may change, what is stored of a picture may not."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from pairloom import open_table
from pipeline.cli import main
from tests.serving import Quiet, pictures, write_list

ROWS = 3
DELAY_S = 1.5


class Slow(Quiet):
    """Answers after DELAY_S."""

    def do_GET(self) -> None:  # noqa: N802  the server's name for it
        if self.path.endswith(".jpg"):
            time.sleep(DELAY_S)
        super().do_GET()


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished download of three pictures, none of which came within its timeout."""
    folder = tmp_path_factory.mktemp("failed")
    with pictures(folder / "www", ROWS):
        pass  # they are drawn
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(Slow, directory=str(folder / "www"), asked=[]))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    host = f"127.0.0.1:{httpd.server_port}"
    write_list(folder / "my.csv", host, range(ROWS))
    hurried = ["download.timeout_s=0.4", "download.header_timeout_s=0.4", "download.retries=0"]
    options = [option for setting in (*hurried, "download.min_success_rate=0") for option in ("--set", setting)]
    command = ["download", str(folder / "my.csv"), "--out", str(folder / "out"), "--allow-host", host]
    assert main([*command, *options, "--cluster", "inline", "--quiet"]) == 0
    yield folder / "out"
    httpd.shutdown()
    httpd.server_close()


def retry(folder: Path, *settings: str) -> int:
    options = [option for setting in settings for option in ("--set", setting)]
    return main(["retry", str(folder), "--reason", "timeout", "--cluster", "inline", "--quiet", "--json", *options])


def test_what_is_stored_of_a_picture_may_not_change(failed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert retry(failed, "download.quality=50") == 1
    said = capsys.readouterr().err
    assert "download.quality is 50, and the table was made with 92" in said


def test_a_longer_timeout_is_used(failed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = failed / "download"
    assert open_table(table).rows == 0
    before = open_table(table).header
    assert retry(failed, "download.timeout_s=20", "download.header_timeout_s=20") == 0
    assert json.loads(capsys.readouterr().out)["retried"] == ROWS
    assert open_table(table).rows == ROWS
    assert open_table(table).header == before
